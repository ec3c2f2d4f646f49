"""The pipeline as it is drawn: names stay in their quotes, many batches are one node; and what DVC is asked."""

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castline.app import pipeline
from castline.app.pipeline import Dag, Pipeline, dag, drawn, stale
from castline.errors import CastlineError

CHAIN = Dag(
    ("data.dvc", "faces@a", "train", "export"),
    frozenset({("data.dvc", "faces@a"), ("faces@a", "train"), ("train", "export"), ("data.dvc", "train")}),
)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
# With S for every string: the first lines and the last, a node, an arrow.
_FORMS = (r"digraph \{|(\w+=S; ?)+|(node|edge) \[(\w+=S,? ?)+\];|\}", r"S \[label=S(,? \w+=S)*\];", r"S -> S;")


def label(text: str, name: str) -> list[str]:
    """The lines that are drawn of a node."""
    found = re.search(rf'^"{re.escape(name)}" \[label="(.*?)"', text, re.MULTILINE)
    assert found is not None
    return found[1].split("\\n")


def test_arrows_that_others_imply_are_left_out() -> None:
    assert CHAIN.drawn_arrows == [("data.dvc", "faces@a"), ("faces@a", "train"), ("train", "export")]


def test_what_is_stale_and_what_may_follow_is_said_in_words_and_by_shape() -> None:
    text = drawn(CHAIN, {"train": ["changed deps stages/train.py"]})
    assert label(text, "train") == ["train", "stale"]
    assert label(text, "export") == ["export", "may follow"]
    assert label(text, "faces@a") == ["faces", "a"]
    assert text.count("octagon") == text.count('peripheries="2"') == text.count("dashed") == 1
    for answer in ({}, None):
        assert "stale" not in drawn(CHAIN, answer)
        assert "octagon" not in drawn(CHAIN, answer)


def test_many_batches_are_one_node() -> None:
    batches = tuple(f"faces@{i}" for i in range(5))
    graph = Dag((*batches, "train"), frozenset((batch, "train") for batch in batches))
    assert [(node.name, len(node.stages)) for node in graph.nodes] == [("faces", 5), ("train", 1)]
    assert graph.drawn_arrows == [("faces", "train")]
    assert label(drawn(graph, {"faces@1": [], "faces@3": []}), "faces") == ["faces", "5 batches", "2 stale"]
    assert label(drawn(graph, dict.fromkeys(batches, ())), "faces") == ["faces", "5 batches", "stale"]


@given(st.lists(st.text(), unique=True, max_size=6), st.sets(st.integers(0, 5)))
def test_names_stay_in_their_quotes(names: list[str], old: set[int]) -> None:
    graph = Dag(tuple(names), frozenset(pairwise(names)))
    text = _STRING.sub("S", drawn(graph, {name: () for i, name in enumerate(names) if i in old}))
    head, nodes, arrows = ([line for line in text.splitlines() if re.fullmatch(form, line)] for form in _FORMS)
    assert len(nodes) == len(graph.nodes)
    assert len(head) + len(nodes) + len(arrows) == len(text.splitlines())


def test_a_project_is_asked(versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(versions)
    served = Pipeline()
    assert served.stale is None
    asked = served.dag()
    assert asked.result(60).stages == ("export",)
    assert served.dag() is asked
    served.check()
    assert served.stale is not None
    assert served.stale.result(60) == {}


def answering(monkeypatch: pytest.MonkeyPatch, code: int, output: str, error: str = "") -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, code, output.encode(), error.encode())

    monkeypatch.setattr(pipeline.subprocess, "run", run)


def test_reasons_are_those_of_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"train": [{"changed deps": {"a": "modified", "b": "new"}}, "always changed"], "base": []}
    answering(monkeypatch, 0, json.dumps(status))
    assert stale() == {"train": ["changed deps a, b", "always changed"], "base": []}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", "DVC is at work here"),
        ("ERROR: 'models' is busy, it is being blocked by:", "DVC is at work here"),
        ("WARNING: x\nERROR: you are not inside of a DVC repository", "you are not inside of a DVC repository"),
        ("", "dvc status"),
    ],
)
def test_what_dvc_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch, error: str, words: str) -> None:
    answering(monkeypatch, 255, "", error)
    with pytest.raises(CastlineError, match=words):
        stale()


def test_dvc_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **options: Any) -> None:
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(pipeline.subprocess, "run", run)
    with pytest.raises(CastlineError, match="takes longer than"):
        dag()
