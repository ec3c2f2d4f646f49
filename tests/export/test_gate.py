"""The gate: what is measured of a file, and which files may leave."""

from typing import Any

import numpy as np
import pytest

from castline.errors import ConfigError, GateError
from castline.evaluation.identification import Identification
from castline.evaluation.settings import OpenSetSettings
from castline.export.gate import FileReport, check, measure, table
from castline.export.settings import Allowance, ExportSettings
from castline.scoring import Scorer

MAY = {"float32": Allowance(0.3, 0.5, 5), "int8": Allowance(1.0, 2.0, 10)}
SETTINGS = ExportSettings(allowance=MAY)


def report(top1: float, reference_top1: float = 0.98, **other: Any) -> FileReport:
    values = {
        "faces": 500, "agreement": 0.99, "cosine": 0.999, "worst_person": 0.9, "reference_worst_person": 0.9,
        "person_lost": 0.0, "temperature": 1.0, "ece": 0.01, "latency_ms": 3.25,
    } | other  # fmt: skip
    return FileReport(top1=top1, reference_top1=reference_top1, **values)


def scorer() -> Scorer:
    """Three people, each at the end of an axis."""
    zeros, one = np.zeros(3, np.float32), np.ones(1, np.float32)
    axes = np.eye(3, dtype=np.float32)
    return Scorer(("ann", "bo", "cy"), {}, zeros, one, axes, zeros, gallery=axes)


def identification(raw: np.ndarray, truth: list[int], settings: OpenSetSettings | None = None) -> Identification:
    """Test faces, -1 those of strangers, each of whom is somebody else."""
    people = [f"stranger {i}" if person < 0 else scorer().people[person] for i, person in enumerate(truth)]
    sides = np.array(["" if person < 0 else "test" for person in truth])
    return Identification(
        scorer(), np.arange(len(raw)), raw.astype(np.float32), people, sides, np.array(truth), (), True,
        settings or OpenSetSettings(),
    )  # fmt: skip


def test_a_file_is_set_beside_pytorch_and_the_truth() -> None:
    axes = np.eye(3, dtype=np.float32)
    reference = axes[[0, 1, 2, 0]]  # PyTorch: three of four right
    raw = 7 * axes[[0, 1, 1, 2]]  # the file: three of four right, other ones
    raw[0] = [0.8, 0.6, 0]
    truth = [0, 1, 2, 2]
    found = measure(identification(raw, truth), identification(reference, truth), 3.25)
    assert (found.faces, found.top1, found.reference_top1, found.agreement) == (4, 0.75, 0.75, 0.5)
    assert found.cosine == 0 and found.lost == 0 and found.latency_ms == 3.25
    assert (found.worst_person, found.reference_worst_person) == (0.5, 0.5)
    assert found.threshold is None and "needs 99 faces of 10 people" in found.refusal and found.tpir_lost == 0
    same = measure(identification(raw[:2], [0, 1]), identification(reference[:2], [0, 1]), 1.0)
    assert same.cosine == pytest.approx(0.8)


def test_each_file_has_its_own_threshold_and_is_measured_by_it() -> None:
    """Twenty strangers of similarity 0.6 at most; the file sees one of the cast as no better than them."""
    axes = np.eye(3, dtype=np.float32)
    strangers = np.stack([[0.6 * i / 20, -1, -np.sqrt(1 - (0.6 * i / 20) ** 2)] for i in range(1, 21)])
    truth = [0, 1, 2] * 10 + [-1] * 20
    reference = np.concatenate([np.tile(axes, (10, 1)), strangers])
    raw = reference.copy()
    raw[[0, 3, 6]] = [0.3, -0.7, -0.7]
    settings = OpenSetSettings(fpir=0.05)
    found = measure(identification(raw, truth, settings), identification(reference, truth, settings), 1.0)
    assert (found.tpir, found.reference_tpir) == (27 / 30, 1.0)
    assert found.tpir_lost == pytest.approx(10)
    assert found.threshold is not None and 0.3 < found.threshold < 0.6


def test_a_person_who_loses_faces_is_seen_behind_a_mean_that_stays() -> None:
    axes = np.eye(3, dtype=np.float32)
    truth = [0] * 10 + [1] * 10 + [2] * 10
    reference, raw = axes[truth], axes[truth]
    reference[20:23] = axes[0]  # PyTorch mistakes three of cy's
    raw[:3] = axes[1]  # the file three of ann's, and one of bo's
    raw[10] = axes[0]
    found = measure(identification(raw, truth), identification(reference, truth), 1.0)
    assert found.lost == pytest.approx(100 / 30) and found.person_lost == pytest.approx(30)
    assert check({"float32": report(0.98), "int8": report(0.98, person_lost=10.0)}, SETTINGS) == ["float32", "int8"]
    with pytest.raises(GateError, match="FAILED: one person"):
        check({"int8": report(0.98, person_lost=30.0)}, SETTINGS)


def test_a_file_that_calls_the_cast_unknown_does_not_leave() -> None:
    kept = {"threshold": 0.5, "reference_tpir": 0.9}
    assert check({"int8": report(0.98, tpir=0.881, **kept)}, SETTINGS) == ["int8"]
    with pytest.raises(GateError, match="FAILED: TPIR"):
        check({"int8": report(0.98, tpir=0.87, **kept)}, SETTINGS)
    one_of_twenty = report(0.98, tpir=0.85, faces=20, **kept)
    assert one_of_twenty.tpir_lost == 0, "a single face"


def test_no_faces_measure_nothing() -> None:
    none = np.zeros((0, 3), np.float32)
    with pytest.raises(GateError, match="no test faces"):
        measure(identification(none, []), identification(none, []), 0.0)


@pytest.mark.parametrize(
    ("float32", "int8", "kept"),
    [
        (0.98, 0.98, ["float32", "int8"]),
        (0.99, 0.97, ["float32", "int8"]),  # better, and exactly the point that int8 may lose
        (0.977, 0.971, ["float32", "int8"]),  # exactly 0.3
        (0.98, 0.9699, ["float32"]),
        (0.98, 0.0, ["float32"]),
    ],
)
def test_an_optional_file_that_lost_too_much_is_left_out(float32: float, int8: float, kept: list[str]) -> None:
    settings = ExportSettings(allowance=SETTINGS.allowance, optional=["int8"])
    assert check({"float32": report(float32), "int8": report(int8)}, settings) == kept


def test_any_other_file_that_lost_too_much_stops_the_stage() -> None:
    reports = {"float32": report(0.98), "int8": report(0.9612, cosine=0.91, latency_ms=12.0)}
    with pytest.raises(GateError, match=r"^int8: more lost on the test split") as refused:
        check(reports, SETTINGS)
    assert table(reports, SETTINGS) in str(refused.value)


def test_the_table_can_be_read() -> None:
    reports = {
        "float32": report(0.98, tpir=0.9, reference_tpir=0.9, threshold=0.4),
        "int8": report(0.9612, cosine=0.91, latency_ms=12.0),
    }
    assert table(reports, SETTINGS).splitlines() == [
        "file      top-1          lost    TPIR          lost  worst person     one lost  agrees  cosine    ms",
        "float32  98.00%  +0.00 of 0.3  90.00%  +0.00 of 0.5        90.00%   +0.00 of 5  99.00%  0.9990   3.2  ok",
        "int8     96.12%    +1.88 of 1       –             –        90.00%  +0.00 of 10  99.00%  0.9100  12.0  "
        "FAILED: top-1",
    ]


def test_unknown_formats_and_ways_are_named() -> None:
    with pytest.raises(ConfigError, match=r"export\.allowance: unknown int4"):
        ExportSettings(allowance={"int4": Allowance()})
    with pytest.raises(ConfigError, match=r"export\.int8: unknown half"):
        ExportSettings(int8=["half"])
    with pytest.raises(ConfigError, match=r"export\.int8 is empty"):
        ExportSettings(int8=[], allowance=MAY)
