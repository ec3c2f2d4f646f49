"""The model as a backend of Label Studio, over HTTP: what it answers, and what it does not let anybody do."""

import base64
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from sample_recognizer import sample_recognizer

from castline.commands.label_backend import _login
from castline.errors import CastlineError, ConfigError
from castline.label_studio import backend as module
from castline.label_studio.backend import Backend
from castline.label_studio.prelabels import Prelabeller
from castline.labels.form import FACES_CONFIG, STRANGER, UNNAMED

ROOT = Path(__file__).parents[2]
SETUP = {
    "project": "1.1700000000", "schema": FACES_CONFIG, "hostname": "http://localhost:8090", "access_token": "T0KEN",
    "extra_params": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def root(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the sample's first delivery, where it lies, a pile of it that nobody has sorted, and odd files."""
    root = tmp_path_factory.mktemp("project")
    (root / "data/odd").mkdir(parents=True)
    (root / "data/first").symlink_to(sample / "photos/first")
    (root / "data/pile").mkdir()
    for path in (sample / "photos/first").glob("*/*_0[123].jpg"):
        (root / "data/pile" / path.name).write_bytes(path.read_bytes())
    (root / "data/odd/page.jpg").write_text("<html>404</html>")
    with Image.open(sample / "photos/first/alma/alma_01.jpg") as photo:
        upright = photo.convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(root / "data/odd/turned ä.jpg", exif=exif, quality=95)
        Image.new("RGB", upright.size).save(root / "data/odd/nobody.jpg")
    return root


@contextmanager
def running(prelabeller: Prelabeller, **options: Any) -> Iterator[Backend]:
    with Backend(prelabeller, port=0, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def prelabeller(sample: Path, root: Path) -> Prelabeller:
    return Prelabeller(sample_recognizer(sample), "castline-1", root)


@pytest.fixture(scope="module")
def server(prelabeller: Prelabeller) -> Iterator[Backend]:
    with running(prelabeller) as server:
        yield server


def ask(
    server: Backend, path: str, body: object = None, method: str = "", raw: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Status and JSON; `body` is sent as JSON."""
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    content = raw if raw is not None else None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    try:
        connection.request(method or ("GET" if content is None else "POST"), path, content, sent)
        answer = connection.getresponse()
        assert answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def task(path: str, number: int = 1, **data: Any) -> dict[str, Any]:
    return {"id": number, "data": {"image": f"/data/local-files/?d={quote(f'data/{path}')}", **data}}


def predict(server: Backend, *tasks: Any) -> list[Any]:
    status, answer = ask(server, "/predict", {"tasks": tasks, "label_config": FACES_CONFIG, "params": {"context": {}}})
    assert status == 200 and len(answer["results"]) == len(tasks)
    results: list[Any] = answer["results"]
    return results


def labels(prediction: dict[str, Any]) -> list[str]:
    return [label for region in prediction["result"] for label in region["value"]["rectanglelabels"]]


def test_what_label_studio_asks_first(server: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(server, "/health") == (200, {"status": "UP", "model_class": "Castline"})
    assert ask(server, "/setup", SETUP) == (200, {"model_version": "castline-1"})
    assert ask(server, "/versions?project=1.17") == (200, {"versions": ["castline-1"]})
    event = {"action": "ANNOTATION_CREATED", "annotation": {"result": [{"value": "WH0"}]}, "project": {"id": 1}}
    assert ask(server, "/webhook", event) == (200, {})
    log = capsys.readouterr().err
    assert "POST /webhook 200: ANNOTATION_CREATED" in log
    assert "T0KEN" not in log and "WH0" not in log


def test_a_form_that_predictions_do_not_fit_is_refused(server: Backend) -> None:
    for schema in ("<View></View>", "", None, '<View><RectangleLabels name="face" toName="person"/></View>'):
        status, answer = ask(server, "/setup", SETUP | {"schema": schema})
        assert status == 400 and "castline label push" in answer["error"]


def test_people_are_named_where_they_are(server: Backend, sample: Path) -> None:
    known = json.loads((sample / "photos.json").read_text())
    people = [{"value": name} for name in ("alma", "bruno", "chidi")]
    photos = [(name, f"{name}_0{n}.jpg") for name in ("alma", "bruno", "chidi") for n in (1, 2)]
    results = predict(server, *(task(f"pile/{photo}", people=people) for _, photo in photos))
    assert [labels(result) for result in results] == [[name] for name, _ in photos]
    for (name, photo), result in zip(photos, results, strict=True):
        (region,) = result["result"]
        left, top, width, height = known[f"photos/first/{name}/{photo}"]["box"]
        assert result["model_version"] == "castline-1"
        assert result["score"] == region["score"] and 0.5 < region["score"] <= 1
        assert (region["type"], region["from_name"], region["to_name"]) == ("rectanglelabels", "person", "image")
        value, size = region["value"], (region["original_width"], region["original_height"])
        x, y = (value["x"] + value["width"] / 2) * size[0] / 100, (value["y"] + value["height"] / 2) * size[1] / 100
        assert left < x < left + width and top < y < top + height, "in pixels of the photo"


def test_boxes_are_those_of_the_upright_photo(server: Backend) -> None:
    upright, turned = predict(server, task("pile/alma_01.jpg"), task("odd/turned ä.jpg"))
    (a,), (b,) = upright["result"], turned["result"]
    assert (a["original_width"], a["original_height"]) == (b["original_width"], b["original_height"])
    assert all(a["value"][key] == pytest.approx(b["value"][key], abs=3) for key in ("x", "y", "width", "height"))


def test_of_a_person_who_is_not_offered_nothing_is_said(server: Backend) -> None:
    photo = "pile/alma_01.jpg"
    results = predict(server, task(photo), task(photo, people=[{"value": "bruno"}]), task(photo, people=[3, {}, "x"]))
    assert [labels(result) for result in results] == [["alma"], [UNNAMED], [UNNAMED]]


def test_a_lone_face_is_whose_folder_it_lies_in(root: Path, server: Backend) -> None:
    photos = ("pile/bruno_01.jpg", "first/bruno/bruno_01.jpg", "first/_strangers/mirela/mirela_01.jpg")
    pile, folder, stranger = predict(server, *map(task, photos))
    assert [labels(result) for result in (pile, folder, stranger)] == [["bruno"], ["bruno"], [STRANGER]]
    assert "score" in pile["result"][0] and "score" not in folder["result"][0]


def test_who_is_unknown_is_left_to_name(sample: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = sample_recognizer(sample)
    monkeypatch.setattr(recognizer, "cast", replace(recognizer.cast, threshold=2.0))
    answer = Prelabeller(recognizer, "castline-1", root)([task("pile/alma_01.jpg")])
    assert labels(answer.results[0]) == [UNNAMED]


def test_a_bad_task_does_not_spoil_the_others(server: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    good = task("pile/alma_01.jpg")
    bad: list[Any] = [
        None, 3, [], {}, {"data": None}, {"data": {}}, {"id": "\n\x1b[2Jx", "data": {"image": "http://127.0.0.1:9/a.jpg"}},
        task("odd/page.jpg", 7), task("odd/absent.jpg"), task("../models/recognizer"), task("first/../../secret"),
        task("pile/alma_01.jpg", sha256="0" * 64),
    ]  # fmt: skip
    results = predict(server, *bad, good)
    assert results[:-1] == [{"result": [], "score": 0.0, "model_version": "castline-1"}] * len(bad)
    assert labels(results[-1]) == ["alma"]
    log = capsys.readouterr().err
    assert "task 7: the photo cannot be used: not a picture" in log
    assert "and 2 more" in log and "\x1b" not in log
    assert labels(predict(server, task("odd/nobody.jpg"))[0]) == []
    assert predict(server) == []


def test_what_was_seen_is_remembered_within_bounds(sample: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer, looked = sample_recognizer(sample), []
    find = recognizer.find
    monkeypatch.setattr(recognizer, "find", lambda photo: looked.append(photo.sha256) or find(photo))
    prelabeller = Prelabeller(recognizer, "castline-1", root, remember=2)
    a, b, c = (task(f"pile/alma_0{n}.jpg") for n in (1, 2, 3))
    first = prelabeller([a, b])
    again = prelabeller([b, a])
    assert (first.remembered, again.remembered, len(looked)) == (0, 2, 2)
    assert again.results == first.results[::-1]
    prelabeller([c])  # in place of b, which was asked for before a
    assert prelabeller([a]).remembered == 1
    assert prelabeller([b]).remembered == 0
    assert len(looked) == 4


def test_what_time_does_not_suffice_for_is_asked_again(prelabeller: Prelabeller) -> None:
    """Of an empty list Label Studio keeps nothing, of a prediction without faces it does."""
    answer = prelabeller([task("pile/alma_01.jpg")] * 3, until=time.monotonic())
    assert labels(answer.results[0]) == ["alma"]
    assert answer.results[1:] == [[], []] and answer.left == 2


def test_many_at_once(server: Backend) -> None:
    names = ["alma", "bruno", "chidi"] * 4
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda name: predict(server, task(f"pile/{name}_03.jpg")), names))
    assert [labels(result) for (result,) in found] == [[name] for name in names]


def test_it_is_there_while_it_predicts(server: Backend, prelabeller: Prelabeller) -> None:
    """Label Studio waits a second for /health, and asks for it whenever somebody opens the project's settings."""
    with prelabeller._one:
        assert ask(server, "/health")[0] == ask(server, "/setup", SETUP)[0] == ask(server, "/versions")[0] == 200


@pytest.mark.parametrize(
    ("status", "path", "request_"),
    [
        (404, "/", {}),
        (404, "/predict/", {"body": {}}),
        (404, "/data/local-files/?d=data/first/alma/alma_01.jpg", {}),
        (405, "/predict", {}),
        (405, "/health", {"body": {}}),
        (405, "/predict", {"method": "PUT", "body": {}}),
        (405, "/health", {"method": "OPTIONS"}),
        (400, "/predict", {"raw": b""}),
        (400, "/predict", {"raw": b"{"}),
        (400, "/predict", {"raw": b"\xff\xfe\x00"}),
        (400, "/predict", {"raw": b"[" * 200_000}),
        (400, "/predict", {"raw": b'{"tasks": ' + b"[" * 200_000}),
        (400, "/predict", {"raw": b'{"a": ' + b"9" * 10_000 + b"}"}),
        (400, "/predict", {"body": []}),
        (400, "/predict", {"body": {}}),
        (400, "/predict", {"body": {"tasks": {"0": 1}}}),
        (400, "/predict", {"body": {"tasks": [1] * 10_001}}),
        (411, "/predict", {"raw": b"{}", "Transfer_Encoding": "chunked"}),
        (411, "/predict", {"raw": b"{}", "Content_Length": "-2"}),
        (413, "/predict", {"raw": b"{}", "Content_Length": "100000000000"}),
        (415, "/predict", {"raw": b"{}", "Content_Type": "text/plain"}),
        (403, "/health", {"Host": "evil.example"}),
        (403, "/predict", {"body": {"tasks": []}, "Host": "evil.example:9090"}),
        (403, "/health", {"Host": "127.0.0.1.evil.example"}),
        (403, "/health", {"Host": ""}),
        (403, "/health", {"Host": "[::1"}),
    ],
)  # fmt: skip
def test_what_is_not_answered(server: Backend, status: int, path: str, request_: dict[str, Any]) -> None:
    found, answer = ask(server, path, **request_)
    assert found == status
    assert set(answer) == {"error"} and "Traceback" not in answer["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9090", "127.0.0.1:1", "[::1]:9090", "192.168.1.5:9090"])
def test_addresses_and_localhost_are_its_names(server: Backend, host: str) -> None:
    assert ask(server, "/health", Host=host)[0] == 200


def test_another_name_has_to_be_given(prelabeller: Prelabeller) -> None:
    with running(prelabeller, names=["Models.example"]) as server:
        assert ask(server, "/health", Host="models.example:9090")[0] == 200
        assert ask(server, "/health", Host="other.example:9090")[0] == 403


def test_a_password(prelabeller: Prelabeller) -> None:
    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    with running(prelabeller, login=("castline", "pass:word")) as server:
        wrong = [
            "",
            "Basic",
            "Basic !",
            "Bearer x",
            basic("castline:"),
            basic("castline:pass:wor"),
            basic("x:pass:word"),
        ]
        for given in wrong:
            assert ask(server, "/predict", {"tasks": []}, Authorization=given)[0] == 401
            assert ask(server, "/health", Authorization=given)[0] == 401
        assert ask(server, "/predict", {"tasks": []}, Authorization=basic("castline:pass:word"))[0] == 200
        assert ask(server, "/webhook", {"action": "TASKS_CREATED"})[0] == 200, "Label Studio sends no password there"


def test_what_goes_wrong_inside_stays_inside(
    prelabeller: Prelabeller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no memory at /home/anna")

    monkeypatch.setattr(Prelabeller, "__call__", fails)
    with running(prelabeller) as server:
        status, answer = ask(server, "/predict", {"tasks": []})
        assert (status, answer) == (500, {"error": "the backend failed: its log says how"})
        assert ask(server, "/health")[0] == 200
    assert "RuntimeError: no memory at /home/anna" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [b"", b"GET /heal", b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"])
def test_who_does_not_finish_a_request_is_hung_up_on(prelabeller: Prelabeller, sent: bytes) -> None:
    """Also who sends a little now and then."""
    with running(prelabeller, reading=0.3) as server, socket.create_connection(server.server_address[:2]) as slow:
        slow.settimeout(10)
        slow.sendall(sent)
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                try:
                    slow.sendall(b"a")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert b" 200 " not in slow.recv(1000)
        except ConnectionError:
            pass
        finally:
            ended.set()
            dripping.join()


def test_the_number_of_connections_is_bounded(prelabeller: Prelabeller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_CONNECTIONS", 3)
    with running(prelabeller) as server:
        waiting = [socket.create_connection(server.server_address[:2]) for _ in range(3)]
        with socket.create_connection(server.server_address[:2]) as fourth:
            fourth.settimeout(10)
            assert fourth.recv(1) == b""
        for one in waiting:
            one.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert ask(server, "/health")[0] == 200
                break
            except ConnectionError:
                assert time.monotonic() < deadline


def test_a_taken_port_is_said(server: Backend, prelabeller: Prelabeller) -> None:
    with pytest.raises(CastlineError, match=r"nothing can listen on 127\.0\.0\.1"):
        Backend(prelabeller, port=server.server_port)
    with pytest.raises(CastlineError, match="nothing can listen"):
        Backend(prelabeller, host="no such host")


def test_it_ends_when_it_is_asked_to() -> None:
    code = (
        "from castline.label_studio.backend import Backend, serve; "
        "from castline.label_studio.prelabels import Prelabeller; "
        "server = Backend(Prelabeller(None, '1'), port=0); print(server.url, flush=True); serve(server); print('ended')"
    )
    command = [sys.executable, "-c", code]
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as idle:  # does not keep it
                idle.sendall(b"GET ")
                connection = HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", "/health")  # so it handles signals by now
                assert connection.getresponse().status == 200
                process.send_signal(number)
                assert process.wait(30) == 0
            assert process.stdout.read() == "ended\n"


def test_a_password_is_whole_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASTLINE_BACKEND_PASSWORD", raising=False)
    assert _login(None) is None
    with pytest.raises(ConfigError, match="belong together"):
        _login("castline")
    monkeypatch.setenv("CASTLINE_BACKEND_PASSWORD", "pass:word")
    assert _login("castline") == ("castline", "pass:word")
    for user in (None, "", "a:b", "jürgen"):
        with pytest.raises(ConfigError, match="belong together"):
            _login(user)
