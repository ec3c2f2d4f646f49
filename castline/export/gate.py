"""The gate: a file leaves only if it names people as well as the PyTorch model that it came from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castline.errors import GateError
from castline.export.settings import ExportSettings
from castline.scoring import Scorer

__all__ = ["FileReport", "check", "measure", "table"]


@dataclass(frozen=True)
class FileReport:
    """An exported file on the test faces.

    faces: how many. top1: share that it names rightly; reference_top1: that PyTorch does. agreement: share that it
    names as PyTorch does. cosine: the lowest between its embedding of a face and PyTorch's. latency_ms: median for
    one face, in wall time, of the machine that measured it.
    """

    faces: int
    top1: float
    reference_top1: float
    agreement: float
    cosine: float
    latency_ms: float

    @property
    def lost(self) -> float:
        """Points of top-1 lost against PyTorch, in percent; below 0 where the file does better."""
        return 100 * (self.reference_top1 - self.top1)


def measure(
    raw: NDArray[np.float32],
    reference: NDArray[np.float32],
    truth: NDArray[np.integer],
    scorer: Scorer,
    latency_ms: float,
) -> FileReport:
    """Set what a file made of the test faces beside what PyTorch made of them.

    raw, reference: (N, D) raw embeddings, by the file and by PyTorch. truth: (N,) the right person's place in the
    scores. latency_ms: what one face took.

    Raises: GateError when there are no faces to measure on.
    """
    if not len(raw):
        raise GateError("no test faces to measure exported files on", "add photos, or raise split.test")
    (embeddings, scores), (wanted, wanted_scores) = scorer(raw), scorer(reference)
    named, expected = scores.argmax(1), wanted_scores.argmax(1)
    return FileReport(
        faces=len(raw),
        top1=float((named == truth).mean()),
        reference_top1=float((expected == truth).mean()),
        agreement=float((named == expected).mean()),
        cosine=float((embeddings * wanted).sum(1).min()),
        latency_ms=latency_ms,
    )


def check(reports: Mapping[str, FileReport], settings: ExportSettings) -> list[str]:
    """The formats that are good enough, in the order of `reports`; optional ones that are not are left out.

    A format may lose `settings.allowance` points of top-1; one that has none there may lose nothing.

    Raises: GateError with a table of all files when one that is not optional lost too much.
    """
    failed = [name for name, report in reports.items() if not _passes(name, report, settings)]
    if fatal := [name for name in failed if name not in settings.optional]:
        raise GateError(
            f"{', '.join(fatal)}: more top-1 lost on the test split than export.allowance grants\n"
            + table(reports, settings),
            "look at reports/; raise export.calibration for int8, or export.allowance, or name it in export.optional",
        )
    return [name for name in reports if name not in failed]


def table(reports: Mapping[str, FileReport], settings: ExportSettings) -> str:
    """The reports, a line a file, aligned."""
    rows = [("file", "top-1", "PyTorch", "lost", "allowed", "agrees", "cosine", "ms", "")]
    for name, report in reports.items():
        verdict = "left out" if name in settings.optional else "FAILED"
        rows.append(
            (
                name,
                f"{report.top1:.2%}",
                f"{report.reference_top1:.2%}",
                f"{report.lost:+.2f}",
                f"{_allowed(name, settings):.2f}",
                f"{report.agreement:.2%}",
                f"{report.cosine:.4f}",
                f"{report.latency_ms:.1f}",
                "ok" if _passes(name, report, settings) else verdict,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others[:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, others[-1]]).rstrip())
    return "\n".join(lines)


def _allowed(name: str, settings: ExportSettings) -> float:
    """Points of top-1, in percent, that a file may lose."""
    return settings.allowance.get(name, 0.0)


def _passes(name: str, report: FileReport, settings: ExportSettings) -> bool:
    # A billionth of a point more: in floating point, 100 * (0.98 - 0.97) exceeds 1.
    return report.lost <= _allowed(name, settings) + 1e-9
