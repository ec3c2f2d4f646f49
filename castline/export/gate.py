"""The gate: a file leaves only if it names the cast, and strangers not, as the model that it came from does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from castline.errors import GateError
from castline.evaluation.identification import Identification
from castline.export.settings import Allowance, ExportSettings

__all__ = ["FileReport", "check", "measure", "table"]


@dataclass(frozen=True)
class FileReport:
    """An exported file on the test faces.

    faces: how many. top1: share that it names rightly; reference_top1: that the model does. agreement: share that it
    names as the model does. cosine: the lowest between its embedding of a face and the model's. worst_person: the
    lowest share of one person's faces; reference_worst_person: the model's. person_lost: the points that the person who
    lost most did, a single face not counted. temperature: that makes its scores probabilities; ece: how far they are
    from it on the test faces. threshold: fitted to this file; tpir: share of faces that are named right and reach it;
    reference_tpir: the model's, at its own threshold; None where there are too few faces of strangers to fit one, and
    `refusal` says so. latency_ms: median for one face, in wall time, of the machine that measured it.
    """

    faces: int
    top1: float
    reference_top1: float
    agreement: float
    cosine: float
    worst_person: float
    reference_worst_person: float
    person_lost: float
    temperature: float
    ece: float
    latency_ms: float
    threshold: float | None = None
    tpir: float | None = None
    reference_tpir: float | None = None
    refusal: str = ""

    @property
    def lost(self) -> float:
        """Points of top-1 lost against the model, in percent; below 0 where the file does better."""
        return 100 * (self.reference_top1 - self.top1)

    @property
    def tpir_lost(self) -> float:
        """Points of TPIR lost, in percent; a single face is none."""
        if self.tpir is None or self.reference_tpir is None:
            return 0.0
        lost = self.reference_tpir - self.tpir
        return 0.0 if 0 < lost * self.faces < 1.5 else 100 * lost


def measure(file: Identification, reference: Identification, latency_ms: float) -> FileReport:
    """Set what a file made of faces beside what the model made of the same.

    latency_ms: what one face took.

    Raises: GateError when there are no faces to measure on.
    """
    test = file.test
    if not len(test):
        raise GateError("no test faces to measure exported files on", "add photos, or raise split.test")
    (embeddings, _), (wanted, _) = file.scorer(file.raw[test]), reference.scorer(reference.raw[test])
    people = file.truth[test]
    faces = np.bincount(people)
    named, expected = (np.bincount(people, weights=one.right[test]) for one in (file, reference))
    there = faces > 0
    lost = np.where(expected - named > 1, (expected - named) / np.maximum(faces, 1), 0.0)
    point, other = (one.chosen.at(one.settings.fpir) for one in (file, reference))
    return FileReport(
        faces=len(test),
        top1=file.top1,
        reference_top1=reference.top1,
        agreement=float((file.logits[test].argmax(1) == reference.logits[test].argmax(1)).mean()),
        cosine=float((embeddings * wanted).sum(1).min()),
        worst_person=float((named[there] / faces[there]).min()),
        reference_worst_person=float((expected[there] / faces[there]).min()),
        person_lost=float(100 * lost.max()),
        temperature=file.temperature,
        ece=file.reliability(file.temperature).ece,
        latency_ms=latency_ms,
        threshold=point.threshold,
        tpir=point.tpir,
        reference_tpir=other.tpir,
        refusal=point.refusal,
    )


def check(reports: Mapping[str, FileReport], settings: ExportSettings) -> list[str]:
    """The formats that are good enough, in the order of `reports`; optional ones that are not are left out.

    Raises: GateError with a table of all files when one that is not optional lost too much.
    """
    failed = [name for name, report in reports.items() if _too_much(report, settings.allowance.get(name))]
    if fatal := [name for name in failed if name not in settings.optional]:
        raise GateError(
            f"{', '.join(fatal)}: more lost on the test split than export.allowance grants\n"
            + table(reports, settings),
            "look at reports/; raise export.calibration for int8, or export.allowance, or name it in export.optional",
        )
    return [name for name in reports if name not in failed]


def table(reports: Mapping[str, FileReport], settings: ExportSettings) -> str:
    """The reports, a line a file, aligned; below a share the points that it lost and may lose."""
    columns: list[tuple[str, Callable[[FileReport, Allowance], str]]] = [
        ("top-1", lambda report, _: f"{report.top1:.2%}"),
        ("lost", lambda report, may: _of(report.lost, may.top1)),
        ("TPIR", lambda report, _: "–" if report.tpir is None else f"{report.tpir:.2%}"),
        ("lost", lambda report, may: "–" if report.tpir is None else _of(report.tpir_lost, may.tpir)),
        ("worst person", lambda report, _: f"{report.worst_person:.2%}"),
        ("one lost", lambda report, may: _of(report.person_lost, may.person)),
        ("agrees", lambda report, _: f"{report.agreement:.2%}"),
        ("cosine", lambda report, _: f"{report.cosine:.4f}"),
        ("ms", lambda report, _: f"{report.latency_ms:.1f}"),
    ]
    rows = [["file", *(name for name, _ in columns), ""]]
    for name, report in reports.items():
        allowance = settings.allowance.get(name, Allowance())
        cells = [cell(report, allowance) for _, cell in columns]
        too_much = _too_much(report, allowance)
        verdict = (
            f"{'left out' if name in settings.optional else 'FAILED'}: {', '.join(too_much)}" if too_much else "ok"
        )
        rows.append([name, *cells, verdict])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others[:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, others[-1]]).rstrip())
    return "\n".join(lines)


def _of(lost: float, allowed: float) -> str:
    return f"{lost:+.2f} of {allowed:g}"


def _too_much(report: FileReport, allowance: Allowance | None) -> list[str]:
    """What a file lost too much of; a format that has no allowance may lose nothing."""
    allowance = allowance or Allowance()
    losses = {
        "top-1": (report.lost, allowance.top1),
        "TPIR": (report.tpir_lost, allowance.tpir),
        "one person": (report.person_lost, allowance.person),
    }
    # A billionth of a point more: in floating point, 100 * (0.98 - 0.97) exceeds 1.
    return [name for name, (lost, allowed) in losses.items() if lost > allowed + 1e-9]
