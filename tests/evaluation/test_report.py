"""The report is one file that loads nothing, runs nothing, repeats to the byte and believes no name."""

import base64
import io
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from castline.evaluation.measures import Evaluation, Funnel
from castline.evaluation.plots import Curves
from castline.evaluation.report import (
    MAX_MISTAKES,
    Mistake,
    ReportContent,
    Training,
    in_plain_words,
    percent,
    render_report,
    write_report,
)

HOSTILE = [
    "\u202e\udcff<script>alert(1)</script>",
    '"><img src=//x/y onerror=alert(1)>',
    "o'brien\n{{7*7}}",
    "a\u202eb",
    "x" * 500,
]
VOID = {"meta", "img", "br"}


@dataclass
class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, and visible text."""

    html: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.unclosed:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def headings(self) -> list[str]:
        return [attributes["id"] for attributes in self.all("h2")]


def chip() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (120, 90, 60)).save(out, "JPEG")
    return out.getvalue()


def made_up(names: list[str], wrong: float) -> Evaluation:
    """60 test faces, of which about the share `wrong` gets the next person's name."""
    truth = np.arange(60) % len(names)
    given = np.where(np.random.default_rng(0).random(60) < wrong, (truth + 1) % len(names), truth)
    embeddings = np.eye(len(names), dtype=np.float32)[given]
    return Evaluation(names, truth, embeddings, embeddings)


def full(names: list[str], wrong: float = 0.6) -> ReportContent:
    """A report with every section, and `names` wherever a name can come from outside."""
    evaluation = made_up(names, wrong)
    name = names[0]
    mistakes = [
        Mistake(chip(), names[evaluation.truth[i]], names[evaluation.predicted[i]], 0.5 + i / 200, f"{name}.jpg")
        for i in evaluation.mistakes()
    ]
    return ReportContent(
        title=f"Report of {name}",
        training=Training(name, name, "no", name, name, name, 1, [name, "b"], name, {name: name}),
        evaluation=evaluation,
        funnel=Funnel(70, {name: 5, "no_face": 3}, 62, {name: 2}, {"train": 0, "test": 60}),
        curves=[Curves([0, 1], [2.0, 1.0], [2.0, 1.5], [0.2, 0.4], [0.1, 0.3], kept=1)],
        mistakes=mistakes,
        notes=[name],
    )


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return full(HOSTILE)


@pytest.fixture(scope="module")
def page(content: ReportContent) -> Page:
    return Page(render_report(content))


def test_the_page_loads_and_runs_nothing(page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "svg"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on") or key in ("href", "srcset", "action")], tag
        if "src" in attributes:
            assert tag == "img"
            assert re.fullmatch(r"data:image/(jpeg|svg\+xml);base64,[A-Za-z0-9+/=]+", attributes["src"])
    assert "url(" not in page.html
    assert "@import" not in page.html
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_is_sound_and_can_be_read_aloud(page: Page) -> None:
    assert page.html.startswith("<!doctype html>")
    assert page.unclosed == []
    assert page.all("html") == [{"lang": "en"}]
    assert all(attributes["scope"] in ("col", "row") for attributes in page.all("th"))
    assert all(attributes["alt"] for attributes in page.all("img"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["aria-labelledby"] for attributes in page.all("section")} == set(ids)


def test_every_section_is_there(page: Page) -> None:
    assert page.headings == ["what", "photos", "learning", "people", "confusion", "mistakes", "same"]
    assert "✗ not allowed" in page.text
    assert "no face" in page.text


def test_names_are_shown_and_not_believed(page: Page) -> None:
    assert "<script>alert(1)</script>" in page.text
    assert "o'brien\ufffd{{7*7}}" in page.text
    assert "a\ufffdb" in page.text
    assert not {"\u202e", "\udcff"} & set(page.html)
    assert "x" * 121 not in page.html
    title = re.search("<title>(.*)</title>", page.html)
    assert title is not None
    assert "<script" not in title[1]


def test_mistakes_are_pictures_surest_first_and_capped(content: ReportContent, page: Page) -> None:
    assert len(content.mistakes) > MAX_MISTAKES
    pictures = [image for image in page.all("img") if image["src"].startswith("data:image/jpeg")]
    assert len(pictures) == MAX_MISTAKES
    assert base64.b64decode(pictures[0]["src"].partition(",")[2]) == content.mistakes[0].chip
    sure = [float(found) for found in re.findall(r"([\d.]+) % sure", page.text)]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == pytest.approx(100 * max(mistake.confidence for mistake in content.mistakes), abs=0.1)
    assert f"of {len(content.mistakes)} in all" in page.text


def test_equal_content_gives_equal_bytes(content: ReportContent, page: Page, tmp_path: Path) -> None:
    write_report(tmp_path / "reports" / "index.html", full(HOSTILE))
    assert (tmp_path / "reports" / "index.html").read_bytes() == page.html.encode("utf-8")


def test_a_model_without_mistakes() -> None:
    content = replace(full(["anna", "ben"], wrong=0), curves=[], funnel=None)
    page = Page(render_report(content))
    assert page.headings == ["what", "people", "mistakes", "same"]
    assert "All 60 test faces are named right." in page.text
    assert "There are none" in page.text


def test_a_dataset_report_needs_no_model() -> None:
    page = Page(render_report(ReportContent("Dataset", funnel=Funnel(2, {}, 2, {}, {"train": 2}))))
    assert page.headings == ["photos"]
    assert "Every photo and every face was used." in page.text


def test_nothing_at_all_is_still_a_page() -> None:
    page = Page(render_report(ReportContent("Nothing", curves=[Curves.of([])])))
    assert page.headings == []
    assert page.unclosed == []


@pytest.mark.parametrize(("answer", "says"), [("yes", "✓ allowed"), ("no", "✗ not allowed"), ("unknown", "? unclear")])
def test_commercial_use_is_said_plainly(answer: str, says: str) -> None:
    training = Training("base", "licence", answer, "softmax", "pretrained", "head", 1, ["first"])
    assert says in Page(render_report(ReportContent("Report", training))).text


@pytest.mark.parametrize(
    ("correct", "n", "says"),
    [
        (0, 1, "Of 1 test face, 0 are named right."),
        (1, 1, "The only test face is named right."),
        (1, 50, "Of 50 test faces, 1 is named right."),
        (50, 50, "All 50 test faces are named right."),
        (194, 200, "Of 200 test faces, 194 are named right."),
        (970, 1000, "Of every 100 test faces, about 97 are named right."),
        (1998, 2000, "Of every 1,000 test faces, about 999 are named right."),
        (9999, 10_000, "All but 1 of 10,000 test faces are named right."),
        (1, 10_000, "Of 10,000 test faces, 1 is named right."),
    ],
)
def test_in_plain_words(correct: int, n: int, says: str) -> None:
    assert in_plain_words(correct, n) == says


@pytest.mark.parametrize(
    ("share", "says"),
    [(None, "–"), (0.0, "0 %"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (0.5, "50.0 %")],
)
def test_percent_never_rounds_a_mistake_away(share: float | None, says: str) -> None:
    assert percent(share) == says
