import json
from pathlib import Path

import pytest

from castline.curation.decisions import Decision, read_decisions
from castline.curation.sources import read_shoots, read_sources
from castline.errors import DataError

A, B = "a" * 64, "b" * 64


def written(folder: Path, content: object) -> Path:
    path = folder / "review.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_no_file_no_decision(tmp_path: Path) -> None:
    assert read_decisions(tmp_path / "review.json") == {}
    assert read_sources(tmp_path / "sources.csv") == {}


def test_castlines_own_format(tmp_path: Path) -> None:
    entries = [
        {"sha256": A, "face": 0, "decision": "keep", "photo": "first/x.jpg", "note": "an odd hat"},
        {"sha256": A.upper(), "face": 1, "decision": "leave out", "person": ""},
        {"sha256": B, "face": 0, "decision": "it is", "person": " Ame\u0301lie "},
        {"sha256": B, "face": 1, "decision": ""},
        {"sha256": B, "face": 0, "decision": "it is", "person": "Am\u00e9lie"},
    ]
    assert read_decisions(written(tmp_path, {"decisions": entries})) == {
        (A, 0): Decision("keep"),
        (A, 1): Decision("leave out"),
        (B, 0): Decision("it is", "Am\u00e9lie"),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ({"decision": []}, "neither"),
        ({"decisions": ["keep"]}, r"decisions\[0\]: not a mapping"),
        ({"decisions": [{"sha256": "x", "face": 0, "decision": "keep"}]}, "not 64 hexadecimal"),
        ({"decisions": [{"sha256": A, "face": "0", "decision": "keep"}]}, "not the number of a face"),
        ({"decisions": [{"sha256": A, "face": 0, "decision": "maybe"}]}, "'maybe', not one of"),
        ({"decisions": [{"sha256": A, "face": 0, "decision": ["keep"]}]}, "not one of"),
        ({"decisions": [{"sha256": A, "face": 0, "decision": "it is"}]}, "a person is named"),
        ({"decisions": [{"sha256": A, "face": 0, "decision": "keep", "person": "b"}]}, "a person is named"),
        (
            {"decisions": [{"sha256": A, "face": 0, "decision": said} for said in ("keep", "leave out")]},
            r"decisions\[1\]: face 0 of aaaaaaaaaaaa… is decided twice",
        ),
        ([{"id": 1, "data": {"image": "x"}, "annotations": [{"was_cancelled": False, "result": []}]}], "task 0"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_decisions(written(tmp_path, content))


def exported(face: int, *answers: tuple[str, str], skipped: bool = False) -> dict:
    """A task as Label Studio 1.x exports it (keys that are not read left out)."""
    result = []
    for name, value in answers:
        kind = "choices" if name == "decision" else "textarea"
        said = {"choices": [value]} if kind == "choices" else {"text": [value]}
        result.append({"id": name, "type": kind, "from_name": name, "to_name": "image", "value": said})
    box = {"x": 1.0, "y": 1.0, "width": 5.0, "height": 5.0, "rotation": 0, "rectanglelabels": ["this face"]}
    result.append({"id": "r", "type": "rectanglelabels", "from_name": "face", "to_name": "image", "value": box})
    return {
        "id": face,
        "data": {"sha256": A, "face": face, "image": "/data/local-files/?d=x.jpg"},
        "annotations": [{"id": face, "result": result, "was_cancelled": skipped, "ground_truth": False}],
        "predictions": [7],
    }


def test_a_label_studio_export(tmp_path: Path) -> None:
    tasks = [
        exported(0, ("decision", "keep")),
        exported(1, ("decision", "it is"), ("person", "alma")),
        exported(2, ("decision", "leave out"), ("person", "typed by mistake")),
        exported(3, ("decision", "keep"), skipped=True),
        {**exported(4), "annotations": []},
        exported(5),
    ]
    assert read_decisions(written(tmp_path, tasks)) == {
        (A, 0): Decision("keep"),
        (A, 1): Decision("it is", "alma"),
        (A, 2): Decision("leave out"),
    }
    tasks[0]["annotations"] += exported(0, ("decision", "leave out"))["annotations"]
    with pytest.raises(DataError, match=r"task 0, annotation 1.*decided twice"):
        read_decisions(written(tmp_path, tasks))


def test_sources(tmp_path: Path) -> None:
    path = tmp_path / "sources.csv"
    path.write_text('﻿photo,licence,source\n"first/a, b/1.jpg",CC0,a film\nfirst/c/2.jpg,,\n', encoding="utf-8")
    assert read_sources(path) == {("first", "a, b/1.jpg"): "a film"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no columns"),
        ("photo\nfirst/a/1.jpg\n", "no columns"),
        ("photo,source\n1.jpg,x\n", "line 2: '1.jpg' is not BATCH/path"),
        ("photo,source\nb/1.jpg,x\nb/1.jpg,y\n", "two sources"),
        ("photo,source\nb/1.jpg\n", ""),
    ],
)
def test_sources_that_do_not_fit_are_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sources.csv"
    path.write_text(text)
    if not message:
        assert read_sources(path) == {}
        return
    with pytest.raises(DataError, match=message):
        read_sources(path)


def test_what_one_photographer_took_of_somebody_on_one_day_is_a_shoot(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(
        "photo,author,date\nann/1.jpg,Ada,2014-07-25\nann/2.jpg,Ada,2014-07-25\nbo/3.jpg,Ada,2014-07-25\n"
        "ann/4.jpg,Ada,2014\nann/5.jpg,,2014-07-25\n"
    )
    assert read_shoots(["absent", "b"], tmp_path) == {
        ("b", "ann/1.jpg"): "ann: Ada, 2014-07-25",
        ("b", "ann/2.jpg"): "ann: Ada, 2014-07-25",
        ("b", "bo/3.jpg"): "bo: Ada, 2014-07-25",
    }
    for odd in (b"file\nx\n", b"photo\n\xff\n"):
        (tmp_path / "b.csv").write_bytes(odd)
        with pytest.raises(DataError, match=r"b\.csv"):
            read_shoots(["b"], tmp_path)
