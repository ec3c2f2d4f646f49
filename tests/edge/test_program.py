"""The program as a whole, with a stub in the model's place: nothing lost, nothing growing, whatever breaks."""

import json
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from edge_program import Running, StubLink, StubModel, events
from test_greengrass import until

from castline.edge import program as edge
from castline.edge.message import SeenFace
from castline.edge.remembered import last_good
from castline.edge.settings import Settings
from castline.errors import BundleError, ConfigError
from castline.photos.decode import Photo
from castline.photos.settings import PhotoSettings


def test_a_folder_read_once_is_published_in_order(tmp_path: Path, folder: Path) -> None:
    running = Running(tmp_path / "work", {"Source": f"directory:{folder}", "LocalTopic": "seen"}, once=True)
    with running:
        running.join()
    assert running.result == [0]
    results = running.results
    assert [Path(said["source"]).name for said in results] == [f"{number:03}.jpg" for number in range(40)]
    assert [said["sequence"] for said in results] == list(range(1, 41))
    assert {topic for topic, _ in running.link.taken} == {"ml/tflite/image-classification"}
    assert results[0]["inference-results"] == [{"Label": "alma", "Score": "0.9000"}]
    assert results[0]["latency-ms"].keys() == {"decode", "detect", "align", "embed", "total"}
    assert results[0]["latency-ms"]["total"] == pytest.approx(3 + results[0]["latency-ms"]["decode"], abs=0.02)
    assert (results[0]["device"], results[0]["model-version"], results[0]["skipped"]) == ("thing", "1.0.0", 0)
    assert running.link.told, "the device's other programs are told, too"
    assert set(running.link.told) <= {("seen", payload) for _, payload in running.link.taken}
    assert (running.link.states, running.link.closed) == (["RUNNING"], True)
    state = running.state
    assert (state["frames"], state["faces"], state["delivered"], state["dropped"]) == (40, 40, 40, 0)
    assert state["latency-ms"]["detect"] == 2.0


def test_ten_thousand_frames_over_a_link_that_is_down_half_of_the_time(tmp_path: Path, photo: Path) -> None:
    """All arrive, in order, and memory does not grow."""
    refused = 0

    def down() -> bool:
        nonlocal refused
        cut = int(time.monotonic() * 10) % 2 == 1
        refused += cut
        return cut

    class Counting(StubLink):
        def publish(self, topic: str, payload: bytes) -> None:
            super().publish(topic, payload)
            sequences.append(json.loads(payload)["sequence"])
            self.taken.clear()

    sequences: list[int] = []
    running = Running(tmp_path / "work", {"Source": f"image:{photo}", "InferenceInterval": 0.01}, Counting(down=down))
    # As fast as frames can be handed over: the camera is a loop.
    frame = next(
        iter(edge.open_source(Settings(f"image:{photo}"), PhotoSettings(), once=True).frames(threading.Event()))
    )

    class Fast:
        name, live = "fast", False

        def frames(self, stop: threading.Event) -> Any:
            for _ in range(10_000):
                yield frame

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "open_source", lambda *_: Fast())
        with running:
            until(lambda: len(sequences) > 1000, 60)
            early = resident()
            until(lambda: len(sequences) == 10_000, 120)
            grown = resident() - early
    assert sequences == list(range(1, 10_001))
    assert running.state["dropped"] == 0
    assert grown < 8e6, f"{grown / 1e6:.1f} MB more"
    assert refused > 10


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_what_the_bound_cannot_hold_is_counted_and_said(tmp_path: Path, folder: Path) -> None:
    link = StubLink(down=lambda: True)
    values = {"Source": f"directory:{folder}", "SpoolMegabytes": 0.2}
    model = StubModel()
    model.look = lambda photo: (  # type: ignore[method-assign]
        tuple(SeenFace((0, 0, 9, 9), "unknown", False, 0.1, 0.1) for _ in range(300)), {"detect": 1.0},
    )  # fmt: skip
    with Running(tmp_path / "work", values, link, lambda _: model) as running:
        until(lambda: running.program._counts["frames"] == 40)
        link.down = lambda: False
        (folder / "later.jpg").write_bytes((folder / "000.jpg").read_bytes())
        until(lambda: len(running.results) > 0 and running.results[-1]["source"].endswith("later.jpg"))
    kept = [said["sequence"] for said in running.results]
    assert kept == list(range(kept[0], 42)), "the newest, without a gap"
    assert kept[0] > 20
    assert running.results[-1]["dropped"] == kept[0] - 1
    assert running.state["dropped"] == kept[0] - 1


def test_a_slow_model_skips_stale_frames_of_a_camera(tmp_path: Path, photo: Path) -> None:
    frame = next(
        iter(edge.open_source(Settings(f"image:{photo}"), PhotoSettings(), once=True).frames(threading.Event()))
    )

    class Live:
        name, live = "live", True

        def frames(self, stop: threading.Event) -> Any:
            while not stop.wait(0.001):
                yield frame

    slow = StubModel(before=lambda photo: time.sleep(0.05))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "open_source", lambda *_: Live())
        with Running(tmp_path / "work", {"Source": "image:x"}, load=lambda _: slow) as running:
            until(lambda: len(running.results) >= 5)
    assert running.results[-1]["skipped"] > 20


def test_what_was_said_last_is_brought_to_the_disk(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = threading.Event()
    monkeypatch.setattr(edge.Spool, "settle", lambda self: settled.set())
    with Running(tmp_path / "work", {"Source": f"image:{photo}"}):
        until(settled.is_set)


def test_a_topic_that_is_not_allowed_is_said_once_and_does_not_stop_the_rest(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = StubLink(denied=frozenset({"no"}))
    with Running(tmp_path / "work", {"Source": f"directory:{folder}", "PublishResultsOnTopic": "no"}, link) as running:
        until(lambda: running.program._counts["refused"] == 40)
        running.configure(PublishResultsOnTopic="yes")
        until(lambda: running.program._settings.topic == "yes")
        shutil.copy(folder / "000.jpg", folder / "x.jpg")
        until(lambda: len(link.taken) == 1)
    assert link.taken[0][0] == "yes"
    assert caplog.text.count("not to no") == 1
    assert running.state["problems"] == {"topic no": "not to no"}


def test_a_configuration_is_applied_without_a_restart(
    tmp_path: Path, folder: Path, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = []

    def load(settings: Settings) -> StubModel:
        loaded.append(settings.threshold)
        if settings.threshold == 0.99:
            raise BundleError("no such model")
        return StubModel(f"1.0.{len(loaded)}")

    with Running(tmp_path / "work", {"Source": f"directory:{folder}"}, load=load) as running:
        until(lambda: len(running.results) == 40)
        running.configure(Source=f"image:{photo}", InferenceInterval="0.02", Threshold="0.4", Fsp=3)
        until(lambda: running.results[-1]["source"].endswith("a.jpg"))
        assert running.results[-1]["model-version"] == "1.0.2"
        until((tmp_path / "work" / "configuration.json").exists)
        assert last_good(tmp_path / "work")["Threshold"] == "0.4"
        good = running.values
        for number, wrong in enumerate(({"Fps": "many"}, {"Threshold": 0.99})):
            running.values = good
            running.configure(**wrong)
            until(lambda number=number: len(events(running)) > number)
        seen = len(running.results)
        until(lambda: len(running.results) > seen)
        running.values = good
        running.program.configuration_changed()
        until(lambda: "configuration" not in running.program._problems)
    assert loaded == [None, 0.4, 0.99]
    assert "'Fsp' is no setting" in caplog.text
    assert [told["reason"].splitlines()[0] for _, told in events(running)] == ['Fps is "many"', "no such model"]
    assert {topic for topic, _ in events(running)} == {"ml/tflite/image-classification/events"}
    assert last_good(tmp_path / "work")["Threshold"] == "0.4"
    assert len(running.made) == 1, "the link is as it was"


def test_another_link_is_used_when_the_one_before_is_closed(tmp_path: Path, photo: Path) -> None:
    class Slow(StubLink):
        def close(self) -> None:
            seen = len(self.taken)
            until(lambda: len(self.taken) > seen + 3 or bool(fresh.taken))
            super().close()

    class Fresh(StubLink):
        def publish(self, topic: str, payload: bytes) -> None:
            early.append(not slow.closed)
            super().publish(topic, payload)

    slow, fresh, early = Slow(), Fresh(), list[bool]()
    with Running(tmp_path / "work", {"Source": f"image:{photo}", "InferenceInterval": 0.02}, slow) as running:
        until(lambda: len(slow.taken) > 3)
        running.link = fresh
        running.configure(Mqtt={"host": "h", "ca": "a", "cert": "b", "key": "c"})
        until(lambda: len(fresh.taken) > 3)
    assert not any(early)
    numbers = [json.loads(payload)["sequence"] for _, payload in slow.taken + fresh.taken]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_model_that_fails_at_one_picture_goes_on_and_at_all_pictures_ends(tmp_path: Path, folder: Path) -> None:
    def moody(photo: Photo) -> None:
        nonlocal looked
        looked += 1
        if looked % 2:
            raise ValueError("an odd picture")

    looked = 0
    with Running(
        tmp_path / "a", {"Source": f"directory:{folder}"}, load=lambda _: StubModel(before=moody), once=True
    ) as running:
        running.join()
    assert (running.result, len(running.results), running.state["failed"]) == ([0], 20, 20)

    def broken(photo: Photo) -> None:
        raise ValueError("no tensor")

    link = StubLink()
    with Running(
        tmp_path / "b", {"Source": f"directory:{folder}"}, link, lambda _: StubModel(before=broken)
    ) as running:
        running.join()
    assert running.result == [1]
    assert link.states == ["RUNNING", "ERRORED"]


def test_a_score_that_is_no_number_costs_its_picture(tmp_path: Path, folder: Path) -> None:
    class Odd(StubModel):
        def look(self, photo: Photo) -> tuple[tuple[SeenFace, ...], dict[str, float]]:
            faces, steps = super().look(photo)
            return (faces if next(number) % 2 else (replace(faces[0], score=float("nan")),)), steps

    number = count()
    with Running(tmp_path / "work", {"Source": f"directory:{folder}"}, load=lambda _: Odd(), once=True) as running:
        running.join()
    assert (running.result, len(running.results), running.state["failed"]) == ([0], 20, 20)
    assert [said["sequence"] for said in running.results] == list(range(1, 21))


def test_the_state_is_written_while_pictures_are_looked_at(tmp_path: Path, folder: Path) -> None:
    class Look(dict[str, float]):
        """Another picture is done just when this one is being read."""

        def __iter__(self) -> Iterator[str]:
            running.program._looks.append({"total": 1.0})
            return super().__iter__()

    running = Running(tmp_path / "work", {"Source": f"directory:{folder}"}, once=True)
    with running:
        running.join()
    running.program._looks.append(Look(total=1.0))
    running.program._write_state()
    assert running.state["latency-ms"]["total"] > 0


def test_without_an_earlier_configuration_there_is_none_to_go_back_to(tmp_path: Path) -> None:
    for text in (None, "[]", "{"):
        if text is not None:
            (tmp_path / "configuration.json").write_text(text)
        with pytest.raises(ConfigError, match=r"configuration\.json"):
            last_good(tmp_path)
