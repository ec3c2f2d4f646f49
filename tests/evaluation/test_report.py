"""The report is one file that loads nothing, runs nothing, repeats to the byte and believes no name."""

import base64
import io
import json
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from castline.evaluation.changes import State, changes_between
from castline.evaluation.groups import CONDITIONS, Grouping, PeopleFile, by_condition, by_people
from castline.evaluation.identification import Identification
from castline.evaluation.labelling import Labelling, Person, read_labelling
from castline.evaluation.measures import Evaluation, Funnel
from castline.evaluation.plots import Curves
from castline.evaluation.report import (
    AT_ONCE,
    MAX_ASIDES,
    MAX_GROUPS,
    MAX_MISTAKES,
    Aside,
    Mistake,
    ReportContent,
    Training,
    render_report,
    write_report,
)
from castline.evaluation.settings import OpenSetSettings
from castline.evaluation.words import percent, strangers_in_plain_words
from castline.scoring import Scorer

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
    def words(self) -> str:
        """The text, with single spaces."""
        return " ".join(self.text.split())

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


@cache
def identified(n: int = 12, each: int = 60) -> Identification:
    """A model of `n` people, and of each `each` faces that are more or less like them, half of validation."""
    rng = np.random.default_rng(0)
    names, eye = [f"person {i}" for i in range(n)], np.eye(n, dtype=np.float32)
    scorer = Scorer(
        tuple(names), {}, np.zeros(n, np.float32), np.ones(1, np.float32), 4 * eye, np.zeros(n, np.float32), gallery=eye
    )
    truth = np.repeat(np.arange(n), each)
    raw = eye[truth] + rng.normal(0, 0.3, (len(truth), n)).astype(np.float32)
    return Identification(
        scorer,
        np.arange(len(truth)),
        raw,
        [names[i] for i in truth],
        np.array(["val", "test"])[np.arange(len(truth)) % 2],
        truth,
        [],
        True,
        OpenSetSettings(),
    )


def grouped(evaluation: Evaluation, of_people: dict[str, str], column: str = "team") -> list[Grouping]:
    who, right = [evaluation.people[i] for i in evaluation.truth], evaluation.ranks == 0
    measured = {condition.column: np.linspace(-50, 200, evaluation.n) for condition in CONDITIONS}
    return [*by_people(PeopleFile({column: of_people}), who, right), *by_condition(measured, who, right)]


def labelled(name: str, **more: Any) -> Labelling:
    said = {
        "rule": "majority", "photos": 20, "photos_of_several": 10, "clusters": 1,
        "faces": {"boxed": 30, "missed_by_detector": 3, "named": 24, "strangers": 2, "disagreed": 1},
        "agreement": {"faces": 10, "alpha": 0.72, "same_name": 0.9, "mean_iou": 0.8},
        "not_used": {name: 2},
        "labellers": {name: {"photos": 20, "compared": 10, "same_name": 0.9}, "8": {"photos": 1, "compared": 0}},
        "pairs": {name: {"faces": 10, "boxed_by_both": 9, "named_by_both": 9}},
        "people": [Person(name, 1, 2)] * 12,
    }  # fmt: skip
    return Labelling(**{**said, **more})


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
        identification=identified(),
        random_top1=(59, 60),
        groupings=grouped(evaluation, dict.fromkeys(names, name), name),
        not_in_cast=[name],
        left_out=[Aside(chip(), name, name, f"{name}.jpg")] * 20,
        doubtful=[Aside(chip(), "", name)],
        labelling=labelled(name),
        changes=changes_between(
            name,
            State({"top1": 0.5, name: 1}, {}, {"head.kind": name, name: 1}, [name], {name: (0, 3), "ben": (1, 2)}),
            State({"top1": 0.7}, {name: 2}, {"head.kind": "softmax"}, ["b"], {"cleo": (3, 3), "ben": (2, 2)}),
        ),
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
        assert not [key for key in attributes if key.startswith("on") or key in ("srcset", "action")], tag
        assert attributes.get("href", "#").startswith("#"), "links lead to places on the page"
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
    assert page.headings == [
        "what", "learning", "strangers", "random", "same", "people", "groups", "confusion", "mistakes", "sure",
        "labels", "photos", "changed",
    ]  # fmt: skip
    assert {link["href"].removeprefix("#") for link in page.all("a")} == set(page.headings) - {"learning", "same"}
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
    assert len(pictures) == MAX_MISTAKES + MAX_ASIDES + 1
    assert base64.b64decode(pictures[0]["src"].partition(",")[2]) == content.mistakes[0].chip
    sure = [float(found) for found in re.findall(r"([\d.]+) % sure", page.words)]
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == pytest.approx(100 * max(mistake.confidence for mistake in content.mistakes), abs=0.1)
    assert f"of {len(content.mistakes)} in all" in page.text
    assert f"{MAX_MISTAKES - AT_ONCE} more" in page.text


def test_equal_content_gives_equal_bytes(content: ReportContent, page: Page, tmp_path: Path) -> None:
    write_report(tmp_path / "reports" / "index.html", full(HOSTILE))
    assert (tmp_path / "reports" / "index.html").read_bytes() == page.html.encode("utf-8")


def test_a_model_without_mistakes() -> None:
    content = full(["anna", "ben"], wrong=0)
    page = Page(render_report(ReportContent(content.title, content.training, content.evaluation)))
    assert page.headings == ["what", "same", "people", "mistakes"]
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


def test_strangers_are_told_in_plain_words_and_with_every_figure() -> None:
    measured = identified()
    point = measured.chosen.at(0.01)
    page = Page(
        render_report(ReportContent("Report", evaluation=made_up(["anna", "ben"], 0.1), identification=measured))
    )
    assert point.tpir is not None
    assert page.words.count(strangers_in_plain_words(point)) == 2, "at the top, and in its section"
    assert "named right and not called unknown" in page.words
    assert f"{point.threshold:.4g}" in page.words
    assert measured.chosen.impostors.source in page.words
    for quoted in measured.chosen.points:
        assert (percent(quoted.tpir) if quoted.tpir is not None else quoted.refusal) in page.words
    low, high = measured.chosen.interval(0.01) or (0, 0)
    assert f"{100 * low:.0f}–{100 * high:.0f} %" in page.words
    assert measured.by_confidence.points[0].refusal in page.words, "no folds: nothing is known of strangers' confidence"


def test_too_few_strangers_are_too_few_to_say() -> None:
    measured = identified(2, each=4)
    page = Page(
        render_report(ReportContent("Report", evaluation=made_up(["anna", "ben"], 0.1), identification=measured))
    )
    assert "It cannot say “unknown” yet" in page.words
    assert "Nothing can be said of strangers: an FPIR of 0.01 needs" in page.words
    assert "not called unknown" not in page.words


def test_how_sure_it_is_before_and_after() -> None:
    measured = identified()
    page = Page(render_report(ReportContent("Report", identification=measured)))
    before, after = measured.reliability(1.0), measured.reliability(measured.temperature)
    assert after.ece < before.ece
    assert f"{100 * before.ece:.1f} points off" in page.words
    assert f"{100 * after.ece:.1f} points off" in page.words
    assert "As trained it is too modest" in page.words


def test_groups_are_smallest_first_and_those_that_do_worse_are_said() -> None:
    names = [f"person {i}" for i in range(6)]
    truth = np.arange(600) % 6
    given = np.where((truth < 3) & (np.arange(600) % 12 < 6), 5, truth)  # half of what is of the first three
    scores = np.eye(6, dtype=np.float32)[given]
    evaluation = Evaluation(names, truth, scores, scores)
    teams = {**dict.fromkeys(names[:3], "red"), **dict.fromkeys(names[3:5], "few"), names[5]: ""}
    page = Page(render_report(ReportContent("Report", evaluation=evaluation, groupings=grouped(evaluation, teams))))
    assert "It does worse for some: team, red" in page.words
    assert "Of 300 test faces 150 are named right: 50.0 %, range 44–56 %; of all test faces 75.0 %." in page.words
    table = page.words[page.words.index("Group, smallest first") :]
    assert table.index("few") < table.index("red") < table.index("not known")
    assert "too few: 200 of 200" in page.words, "of two people"


def test_of_many_small_groups_not_all_are_listed() -> None:
    names = [f"person {i}" for i in range(40)]
    evaluation = made_up(names, 0.1)
    groupings = grouped(evaluation, {name: f"of {name}" for name in names})
    page = Page(render_report(ReportContent("Report", evaluation=evaluation, groupings=groupings)))
    assert page.words.count("of person") == MAX_GROUPS
    assert f"{40 - MAX_GROUPS} smaller groups" in page.words


def test_the_random_split_is_shown_beside_the_other() -> None:
    evaluation = made_up(["anna", "ben"], 0.5)
    page = Page(render_report(ReportContent("Report", evaluation=evaluation, random_top1=(57, 60))))
    assert f"looks better: {100 * (57 - evaluation.correct) / 60:.1f} points here" in page.words
    assert "The upper figure is the one to believe." in page.words
    lower = Page(render_report(ReportContent("Report", evaluation=evaluation, random_top1=(1, 60))))
    assert "Not here" in lower.words


def test_what_changed_is_told_with_numbers_and_names() -> None:
    before = State(
        {"top1": 0.5, "top1_low": 0.4, "top1_high": 0.6}, {}, {"head.dropout": 0.0}, ["one"], {"ben": (1, 2)}
    )
    now = State({"top1": 0.9, "top1_low": 0.8, "top1_high": 0.95}, {}, {"head.dropout": 0.5}, ["one", "two"],
                {"ben": (2, 2), "cleo": (1, 1)})  # fmt: skip
    page = Page(render_report(ReportContent("Report", changes=changes_between("v1.0.0", before, now))))
    assert "What changed since v1.0.0" in page.words
    assert "has changed by more than chance explains" in page.words
    assert "ben (1 of 2 → 2 of 2)" in page.words
    assert "new: two" in page.words
    assert "head.dropout" in page.words
    assert "Photos: the same." in page.words


def test_pictures_of_what_was_left_out_have_reasons(page: Page) -> None:
    assert "Left out: some of them" in page.words
    assert "Kept, but doubtful: the labels look doubtful" in page.words
    assert page.words.count("no label") == 1


def test_the_labels_section_says_how_far_labellers_agree_and_what_is_open() -> None:
    words = Page(render_report(ReportContent("Report", labelling=labelled("anna")))).words
    for said in (
        "People labelled 20 photos and 1 cluster of faces",
        "the same name 90.0 % of the time",
        "Krippendorff's alpha is 0.720: good enough for tentative conclusions",
        "as often as by chance. Their boxes overlap by 80.0 % (mean IoU).",
        "1 face is left out because labellers disagree and the rule (majority) does not settle it",
        "Of 30 faces that they boxed, the detector missed 3 (10.0 %",
        "2 more, agreed on at least as often",
    ):
        assert said in words


def test_one_labeller_is_no_agreement() -> None:
    faces = {"boxed": 0, "missed_by_detector": 0, "named": 0, "strangers": 0, "disagreed": 0}
    alone = labelled("anna", photos_of_several=0, agreement={"faces": 0}, people=[], pairs={}, faces=faces, not_used={})
    words = Page(render_report(ReportContent("Report", labelling=alone))).words
    assert "No photo was labelled by two" in words and "alpha" not in words and "the detector missed" not in words


@pytest.mark.parametrize(("alpha", "words"), [(0.9, "reliable"), (0.7, "tentative"), (0.1, "unreliable"), (None, "")])
def test_alpha_in_words(alpha: float | None, words: str) -> None:
    said = labelled("anna", agreement={} if alpha is None else {"alpha": alpha}).words
    assert words in said and bool(words) == bool(said)


def test_what_the_dataset_stage_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text('{"photos": 0}')
    assert read_labelling(path) is None
    people = {"anna": {"same": 4, "said": 4}, "ben": {"same": 2, "said": 4}, "cleo": {"same": 0, "said": 1}}
    path.write_text(json.dumps({**vars(labelled("x")), "people": people}))
    read = read_labelling(path)
    assert read is not None and [person.name for person in read.people] == ["cleo", "ben", "anna"]
