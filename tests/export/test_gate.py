"""The gate: what is measured of a file, and which files may leave."""

from typing import Any

import numpy as np
import pytest

from castline.errors import ConfigError, GateError
from castline.export.gate import FileReport, check, measure, table
from castline.export.settings import ExportSettings
from castline.scoring import Scorer

SETTINGS = ExportSettings(allowance={"float32": 0.3, "int8": 1.0})


def report(top1: float, reference_top1: float = 0.98, **other: Any) -> FileReport:
    values = {"faces": 500, "agreement": 0.99, "cosine": 0.999, "latency_ms": 3.25} | other
    return FileReport(top1=top1, reference_top1=reference_top1, **values)


def scorer() -> Scorer:
    """Three people, each at the end of an axis."""
    zeros, one = np.zeros(3, np.float32), np.ones(1, np.float32)
    return Scorer(("ann", "bo", "cy"), {}, zeros, one, np.eye(3, dtype=np.float32), zeros)


def test_a_file_is_set_beside_pytorch_and_the_truth() -> None:
    axes = np.eye(3, dtype=np.float32)
    reference = axes[[0, 1, 2, 0]]  # PyTorch: three of four right
    raw = 7 * axes[[0, 1, 1, 2]]  # the file: three of four right, other ones
    raw[0] = [0.8, 0.6, 0]
    found = measure(raw, reference, np.array([0, 1, 2, 2]), scorer(), 3.25)
    assert (found.faces, found.top1, found.reference_top1, found.agreement) == (4, 0.75, 0.75, 0.5)
    assert found.cosine == 0 and found.lost == 0 and found.latency_ms == 3.25
    assert measure(raw[:2], reference[:2], np.array([0, 1]), scorer(), 1.0).cosine == pytest.approx(0.8)


def test_no_faces_measure_nothing() -> None:
    none = np.zeros((0, 3), np.float32)
    with pytest.raises(GateError, match="no test faces"):
        measure(none, none, np.zeros(0, np.intp), scorer(), 0.0)


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
    with pytest.raises(GateError, match=r"^int8: more top-1 lost") as refused:
        check(reports, SETTINGS)
    assert table(reports, SETTINGS) in str(refused.value)


def test_the_table_can_be_read() -> None:
    reports = {"float32": report(0.98), "int8": report(0.9612, cosine=0.91, latency_ms=12.0)}
    assert table(reports, SETTINGS).splitlines() == [
        "file      top-1  PyTorch   lost  allowed  agrees  cosine    ms",
        "float32  98.00%   98.00%  +0.00     0.30  99.00%  0.9990   3.2  ok",
        "int8     96.12%   98.00%  +1.88     1.00  99.00%  0.9100  12.0  FAILED",
    ]


def test_unknown_formats_are_named() -> None:
    with pytest.raises(ConfigError, match=r"export\.allowance: unknown int4"):
        ExportSettings(allowance={"int4": 1.0})
