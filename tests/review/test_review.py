"""What `castline review` writes, of people and files with names that are meant to do harm."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from sample_faces import sample_chips
from typer.testing import CliRunner

from castline.cli import app
from castline.curation.decisions import Decision, read_decisions
from castline.curation.wrong_labels import REASON
from castline.errors import ConfigError, DataError
from castline.files import tables
from castline.review.tasks import LABEL_CONFIG
from castline.review.write import write_review

EVIL = '<img src=x onerror="alert(1)">\u202egpj'
SHA = {"odd": "a" * 64, "doubt": "b" * 64, "blurred": "c" * 64}


def row(photo: str, **more: object) -> dict[str, object]:
    made = {
        "batch": "one", "photo": photo, "face": 0, "photo_sha256": "f" * 64, "chip_hash": bytes(32),
        "person": photo.removeprefix("_strangers/").split("/")[0],
        "stranger": False, "group": "g", "split": "train", "kept": True, "reason": "",
        "score": 0.8, "doubt": "", "random_split": "train",
    }  # fmt: skip
    return {**made, **more}


@pytest.fixture
def project(tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose dataset has three faces to look at, and others that nobody has to."""
    left = {"kept": False, "split": None, "random_split": None}
    rows = [
        row(f"{EVIL}/odd #1.jpg", photo_sha256=SHA["odd"], reason=f"{REASON}: closer to {EVIL}", score=-0.1, **left),
        row(f"{EVIL}/good.jpg"),
        row("bob/doubt.jpg", photo_sha256=SHA["doubt"], doubt=f"{REASON}: unlike", score=0.3),
        row("bob/good.jpg"),
        row("_strangers/eve/1.jpg", photo_sha256=SHA["blurred"], stranger=True, reason="too blurred", **left),
        row("bob/again.jpg", reason="the same file again", **left),
        row("bob/good.jpg", face=1, person=None, reason="another face in the photo", score=None, **left),
        row("lost.jpg", person=None, reason="unlabelled: it lies in no person's folder", score=None, **left),
    ]  # fmt: skip
    chips = sample_chips(sample, 1)[0]
    faces = [
        {
            **{key: one[key] for key in ("batch", "photo", "face", "photo_sha256", "chip_hash")},
            "photo_width": 200, "photo_height": 100, "box": [20.0, 10.0, 60.0, 120.0],
            "landmarks": np.zeros(10, np.float32), "chip": chips[i],
        }
        for i, one in enumerate(rows)
    ]  # fmt: skip
    tables.write(tmp_path / "build/dataset.parquet", tables.DATASET, rows)
    tables.write(tmp_path / "build/faces/one.parquet", tables.FACES, faces)
    (tmp_path / "params.yaml").write_text("data: {batches: [one], read: [one]}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "shoot").mkdir()
    (tmp_path / "data/one").symlink_to(tmp_path / "shoot")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def review(project: Path, root: str = "data", limit: int = 500) -> Path:
    write_review(project / "build", ["one"], project / "out", Path(root), limit)
    return project / "out"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_what_is_to_be_looked_at_and_nothing_else(project: Path) -> None:
    text = (review(project) / "review.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "3 faces" in page.text
    for shown in ("odd #1.jpg", "bob/doubt.jpg", "too blurred", "closer to", "kept, in doubt", "eve"):
        assert shown in page.text
    for hidden in ("again.jpg", "another face", "lost.jpg"):
        assert hidden not in page.text
    assert page.text.index("odd #1.jpg") < page.text.index("bob/doubt.jpg") < page.text.index("too blurred")


def test_the_page_is_one_file_that_loads_nothing_and_runs_nothing(project: Path) -> None:
    text = (review(project) / "review.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "\u202e" not in text
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object", "form")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3 + 2 and all(str(source).startswith("data:image/jpeg;base64,") for source in pictures)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy) and "script" not in str(policy)
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?:|url\(", text)


def test_equal_tables_give_equal_bytes(project: Path) -> None:
    first = {path.name: path.read_bytes() for path in review(project).iterdir()}
    assert first == {path.name: path.read_bytes() for path in review(project).iterdir()}
    assert set(first) == {"review.html", "review.json", "tasks.json", "label_config.xml"}


def test_a_limit_keeps_the_least_fitting_and_says_so(project: Path) -> None:
    page = Page((review(project, limit=1) / "review.html").read_text(encoding="utf-8"))
    assert "odd #1.jpg" in page.text and "bob/doubt.jpg" not in page.text
    assert "2 more are not on this page" in page.text
    assert len(json.loads((project / "out/tasks.json").read_text())) == 3, "the files have them all"


def test_decisions_that_are_written_into_the_file_are_read(project: Path) -> None:
    path = review(project) / "review.json"
    assert read_decisions(path) == {}
    content = json.loads(path.read_text(encoding="utf-8"))
    answers = {SHA["odd"]: ("it is", EVIL), SHA["doubt"]: ("keep", ""), SHA["blurred"]: ("", "")}
    for entry in content["decisions"]:
        entry["decision"], entry["person"] = answers[entry["sha256"]]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert read_decisions(path) == {(SHA["odd"], 0): Decision("it is", EVIL), (SHA["doubt"], 0): Decision("keep")}


def test_tasks_are_what_label_studio_takes_and_its_export_is_read(project: Path) -> None:
    folder = review(project)
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    names = {node.get("name"): node for node in ElementTree.fromstring(LABEL_CONFIG).iter() if node.get("name")}
    assert set(names) == {"image", "face", "decision", "person"}
    for task in tasks:
        image = task["data"]["image"]
        assert image.startswith("/data/local-files/?d=one/")
        assert unquote(image.split("?d=")[1]) == task["data"]["photo"]
        assert not set(image) & set(' <>"#\u202e')
        (result,) = task["predictions"][0]["result"]
        assert names[result["from_name"]].get("toName") == result["to_name"] == "image"
        assert result["value"] == {
            "x": 10.0, "y": 10.0, "width": 20.0, "height": 90.0, "rotation": 0, "rectanglelabels": ["this face"],
        }  # fmt: skip
    choices = [choice.get("value") for choice in names["decision"]]
    result = [
        {"id": "1", "type": "choices", "from_name": "decision", "to_name": "image", "value": {"choices": choices[:1]}}
    ]
    for task in tasks:
        task["annotations"] = [{"result": result, "was_cancelled": False}]
    (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    assert read_decisions(folder / "export.json") == {(sha256, 0): Decision("keep") for sha256 in SHA.values()}


def test_photos_are_named_below_the_folder_that_label_studio_serves(project: Path) -> None:
    tasks = json.loads((review(project, root=str(project)) / "tasks.json").read_text(encoding="utf-8"))
    assert all("?d=data/one/" in task["data"]["image"] for task in tasks)
    tasks = json.loads((review(project, root=str(project / "shoot")) / "tasks.json").read_text(encoding="utf-8"))
    assert any("?d=bob/doubt.jpg" in task["data"]["image"] for task in tasks)
    with pytest.raises(ConfigError, match="does not lie below"):
        review(project, root=str(project / "build"))


def test_the_command_says_where_to_look(project: Path) -> None:
    done = CliRunner().invoke(app, ["review"])
    assert done.exit_code == 0, done.output
    assert "3 faces to look at: build/review/review.html" in done.output
    assert (project / "build/review/review.html").is_file()


def test_nothing_to_look_at_is_said(project: Path) -> None:
    rows = [{**one, "reason": "", "doubt": ""} for one in tables.read(project / "build/dataset.parquet").to_pylist()]
    tables.write(project / "build/dataset.parquet", tables.DATASET, rows)
    folder = review(project)
    assert "There are none" in (folder / "review.html").read_text()
    assert json.loads((folder / "tasks.json").read_text()) == []
    assert read_decisions(folder / "review.json") == {}


def test_tables_that_do_not_belong_together_are_an_error(project: Path) -> None:
    rows = tables.read(project / "build/dataset.parquet").to_pylist()
    tables.write(project / "build/dataset.parquet", tables.DATASET, rows[::-1])
    with pytest.raises(DataError, match="made from different faces"):
        review(project)
    (project / "build/dataset.parquet").unlink()
    with pytest.raises(DataError, match="no such table"):
        review(project)


def test_faces_that_labellers_disagree_about_are_shown_also_where_nobody_is_named(project: Path) -> None:
    path = project / "build/dataset.parquet"
    rows = tables.read(path).to_pylist()
    lost = next(row for row in rows if row["photo"] == "lost.jpg")
    lost["reason"] = "labellers disagree: alma, bruno"
    tables.write(path, tables.DATASET, rows)
    folder = review(project)
    page = Page((folder / "review.html").read_text(encoding="utf-8"))
    assert "4 faces" in page.text and "Not named yet" in page.text and lost["reason"] in page.text
    questions = [task["data"]["question"] for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))]
    assert "Who is this? labellers disagree: alma, bruno" in questions
