"""Versions: what a release refuses, what it makes, which stage holds which, and that an old one comes back."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gto.api
import pytest
import yaml
from gto.exceptions import GTOException
from gto.tag import parse_name
from huggingface_hub import ModelCard
from projects import commit, contents, environment, run

from castline.errors import CastlineError
from castline.versions import release as releases
from castline.versions.facts import facts_at
from castline.versions.git import check_root, git
from castline.versions.listing import compare, describe, print_comparison, print_versions
from castline.versions.release import release
from castline.versions.tags import Action, Registry, _parsed, _Tag, promote, read_registry, rollback

# A pipeline of one quick stage that leaves what the real one leaves.
MAKE = """
import json, pathlib, yaml
params = yaml.safe_load(open("params.yaml"))
people = sorted(path.name for batch in params["data"]["batches"] for path in pathlib.Path("data", batch).iterdir())
top1 = params["head"]["quality"]
bundle = pathlib.Path("models/recognizer")
bundle.mkdir(parents=True, exist_ok=True)
file = {"file": "model_int8.tflite", "bytes": 5, "top1": top1, "threshold": None}
made_of = {"base_model": params["base_model"]}
said = {"people": people, "files": {"int8": file}, "provenance": made_of}
(bundle / "bundle.json").write_text(json.dumps(said))
(bundle / "model_int8.tflite").write_bytes(repr(top1).encode())
reports = pathlib.Path("reports")
reports.mkdir(exist_ok=True)
metrics = {"top1": top1, "top1_low": top1 - 0.1, "top1_high": 1.0, "n_test": 50, "n_people": len(people), "auc": 0.99}
(reports / "metrics.json").write_text(json.dumps({**metrics, "open": {"fpir": 0.01}}))
(reports / "export.json").write_text(json.dumps({"int8": {"top1": top1, "faces": 50, "bytes": 5}}))
"""
PIPELINE = {
    "stages": {
        "make": {
            "cmd": "python make.py",
            "deps": ["make.py", "data/one"],
            "params": ["data", "head", "base_model"],
            "outs": ["models/recognizer"],
            "metrics": [{f"reports/{name}.json": {"cache": False}} for name in ("metrics", "export")],
        }
    },
    "artifacts": {"recognizer": {"path": "models/recognizer", "type": "model"}},
}
PARAMS = {
    "data": {"batches": ["one"]},
    "base_model": {"name": "tiny_net", "licence": "CC0-1.0", "commercial_ok": "yes"},
    "head": {"kind": "softmax", "quality": 0.9},
    "training": {"mode": "full", "start": "pretrained"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run and is committed, for tests to copy."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "make.py").write_text(MAKE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    for person in ("ann", "bob <b>_x_"):
        (folder / "data/one" / person).mkdir(parents=True)
        (folder / "data/one" / person / "1.jpg").write_text(person)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "repro", "-q")
    commit(folder, "First model")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(made, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def change(folder: Path, quality: float) -> None:
    """Another setting, run and committed."""
    text = yaml.safe_dump({**PARAMS, "head": {"kind": "softmax", "quality": quality}})
    (folder / "params.yaml").write_text(text)
    run(folder, "dvc", "repro", "-q")
    commit(folder, "Another setting")


def released(*parts: str) -> list[str]:
    """Versions on commits of their own; what is in them does not matter."""
    names = []
    for part in parts:
        name = read_registry().next(part)
        git("commit", "-q", "--allow-empty", "-m", name)
        git("tag", "-a", "-m", name, f"recognizer@{name}")
        names.append(name)
    return names


def state() -> tuple[str, str, str, bool]:
    """What a refused release must leave as it was."""
    return git("for-each-ref"), git("status", "--porcelain"), git("stash", "list"), Path("MODEL_CARD.md").exists()


def test_a_release_is_a_card_a_commit_and_a_tag(project: Path, tmp_path: Path) -> None:
    output = run(project, "castline", "release", "minor", "--message", "The first")
    assert "recognizer@v0.1.0" in output
    assert "git push --follow-tags && dvc push" in output
    assert git("cat-file", "-t", "recognizer@v0.1.0").strip() == "tag"
    assert git("log", "-1", "--format=%s", "recognizer@v0.1.0").strip() == "recognizer v0.1.0"
    assert git("for-each-ref", "--format=%(contents:subject)", "refs/tags").strip() == "The first"
    assert git("diff", "--name-only", "HEAD~1", "HEAD").split() == ["MODEL_CARD.md"]
    assert git("status", "--porcelain") == ""
    assert run(project, "dvc", "status").strip() == "Data and pipelines are up to date."
    (shown,) = gto.api.show(".", "recognizer")
    assert shown["version"] == "v0.1.0"

    text = Path("MODEL_CARD.md").read_text()
    card = ModelCard(text)
    assert (card.data.license, card.data.metrics) == ("other", ["accuracy"])
    assert card.data.license_name == "base-model-cc0-1.0"
    assert [result.metric_value for result in card.data.eval_results] == [0.9]
    assert "names 2 people" in text
    assert "allows commercial use" in text
    assert "90.0% (95 % interval 80.0% to 100%), 50 faces" in text
    assert "78.6% to 95.7%" in text  # Wilson, 45 of 50
    assert facts_at(git("rev-parse", "HEAD").strip()).batches[0].md5 in text
    assert "ann" not in text.split()

    run(tmp_path, "dvc", "artifacts", "get", str(project), "recognizer", "--rev", "v0.1.0", "-o", "got")
    assert contents(tmp_path / "got") == contents(project / "models/recognizer")


def test_names_are_listed_only_if_asked_for_and_do_no_harm(project: Path) -> None:
    release("minor", names=True)
    text = Path("MODEL_CARD.md").read_text()
    assert "- ann\n" in text
    assert r"- bob \<b\>\_x\_" in text


def untracked(folder: Path) -> None:
    (folder / "no\x1b[2Jte.txt").touch()


def staged(folder: Path) -> None:
    (folder / "make.py").write_text(MAKE + "\n")
    git("add", "make.py")


def stale(folder: Path) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "head": {"quality": 0.5}}))
    commit(folder, "Not run")


def other_photos(folder: Path) -> None:
    (folder / ".gitignore").write_text("/data\n")
    git("rm", "-rq", "--cached", "data")
    commit(folder, "Photos are not git's")
    (folder / "data/one/ann/2.jpg").touch()


def deleted(folder: Path) -> None:
    shutil.rmtree(folder / "models")
    commit(folder, "Gone")


def emptied_cache(folder: Path) -> None:
    shutil.rmtree(folder / ".dvc/cache")


def detached(folder: Path) -> None:
    git("checkout", "-q", "--detach")


def released_already(folder: Path) -> None:
    release("minor")


def taken_name(folder: Path) -> None:
    git("tag", "recognizer@v0.1.0")


def tag_without_tagger(folder: Path) -> None:
    head = git("rev-parse", "HEAD").strip()
    tag = f"object {head}\ntype commit\ntag recognizer@v9.0.0\n\nx\n".encode()
    made = subprocess.run(["git", "hash-object", "-t", "tag", "-w", "--stdin"], input=tag, capture_output=True)
    git("update-ref", "refs/tags/recognizer@v9.0.0", made.stdout.decode().strip())


def failing_hook(folder: Path) -> None:
    hook = folder / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho 'no commits on Sundays' >&2\nexit 1\n")
    hook.chmod(0o755)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (untracked, "made of what is committed.*no\ufffd"),
        (staged, r"made of what is committed.*M  make\.py"),
        (stale, r"make: changed deps params\.yaml"),
        (other_photos, "make: changed deps data/one"),
        (deleted, "make: changed outs models/recognizer"),
        (emptied_cache, "make: changed outs models/recognizer"),
        (detached, "no branch is checked out"),
        (released_already, r"this commit is recognizer v0\.1\.0 already"),
        (taken_name, "there is a tag of that name"),
        (tag_without_tagger, r"recognizer@v0\.1\.0 could not be made: .*no attribute"),
        (failing_hook, "git commit: no commits on Sundays"),
    ],
)
def test_a_refused_release_leaves_nothing_behind(project: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(project)
    before = state()
    with pytest.raises(CastlineError, match=f"(?s){message}") as refused:
        release("minor")
    assert state() == before
    assert refused.value.next or spoil is failing_hook


def test_where_and_what_may_be_released(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'big' is no part" in run(project, "castline", "release", "big", fails=True)
    monkeypatch.chdir(project / "models")
    with pytest.raises(CastlineError, match="whole repository"):
        check_root()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CastlineError, match="not in a git repository"):
        check_root()
    run(tmp_path, "git", "init", "-q")
    with pytest.raises(CastlineError, match="no commit yet"):
        release("minor")


def test_a_release_that_broke_off_before_its_tag_is_finished_by_the_next_try(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(releases, "register", breaks)
        release("minor")
    head = git("rev-parse", "HEAD").strip()
    assert read_registry().versions == {}
    assert release("minor").commit == head


def test_a_tag_that_gto_refuses_takes_the_commit_with_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise GTOException("not today")

    before = state()
    monkeypatch.setattr(releases, "register", refuses)
    with pytest.raises(CastlineError, match="not today"):
        release("minor")
    assert state() == before


@pytest.mark.parametrize(
    ("given", "part", "expected"),
    [
        ([], "patch", "v0.0.1"),
        ([], "minor", "v0.1.0"),
        ([], "major", "v1.0.0"),
        (["v0.9.3"], "minor", "v0.10.0"),
        (["v1.10.0", "v1.9.9"], "patch", "v1.10.1"),
        (["v2.0.0-rc.1", "v1.0.0"], "major", "v2.0.0"),
        (["v1.0.0", "v1.0.0!"], "major", "v2.0.0"),
    ],
)
def test_the_next_number(given: list[str], part: str, expected: str) -> None:
    tags = [
        _Tag(Action.DEREGISTER if name.endswith("!") else Action.REGISTER, name.rstrip("!"), f"{i:040}", i, 0)
        for i, name in enumerate(given)
    ]
    assert Registry(tags).next(part) == expected


@pytest.mark.parametrize(
    "name",
    [
        *(f"recognizer{rest}" for rest in (
            "@v1.2.0", "@v1.2.0!", "@v1.2.0#1", "@v1.2.0!#12", "@v1.2", "@1.2.0", "@v01.2.0", "@v1.2.0-rc.1",
            "@v1.2.0-rc.01", "@v1.2.0+build.7", "@v1.2.0-rc.1+b!", "@v1.2.0 ", "@v1.2.0!!", "@latest", "@deprecated",
            "@created", "@", "", "#prod", "#prod#3", "#prod!#4", "#prod!", "#a/b-c_d#2", "#-a#1", "#a-#1", "#a b",
            "#prod#", "#prod#x", "##1", "#é", "#prod#1#2", "#prod@v1.2.0", "@v1.2.0#prod",
        )),
        "other@v1.0.0", "Recognizer@v1.0.0", "recognizers@v1.0.0", "x/recognizer@v1.0.0", "models=recognizer#prod#1",
    ],
)  # fmt: skip
def test_tags_are_read_as_gto_reads_them(name: str) -> None:
    said = parse_name(name, raise_on_fail=False)
    what = said.get("version") or said.get("stage")
    theirs = (said["action"].name, what, said.get("counter", 0)) if what and said["name"] == "recognizer" else None
    ours = _parsed(name)
    assert (ours and (ours[0].name, *ours[1:])) == theirs


def test_reading_tags_does_not_import_gto() -> None:
    code = "import sys, castline.versions.tags; print('gto' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("history", "holds", "before"),
    [
        ("", None, None),
        ("1", "v1.0.0", None),
        ("12", "v2.0.0", "v1.0.0"),
        ("123", "v3.0.0", "v2.0.0"),
        ("1232", "v2.0.0", "v1.0.0"),  # 3 was gone back from
        ("12321", "v1.0.0", None),
        ("1213", "v3.0.0", "v1.0.0"),
        ("12-", "v1.0.0", None),  # 2 was taken out
        ("1-", None, None),
        ("129", "v2.0.0", "v1.0.0"),  # 9 is of no version
    ],
)
def test_which_version_a_stage_holds_and_held_before(history: str, holds: str | None, before: str | None) -> None:
    tags = [_Tag(Action.REGISTER, f"v{i}.0.0", f"{i:040}", i, 0) for i in (1, 2, 3)]
    for i, step in enumerate(history):
        last = history[i - 1] if step == "-" else step
        tags.append(_Tag(Action.UNASSIGN if step == "-" else Action.ASSIGN, "prod", f"{last:>040}", 10 + i, i + 1))
    registry = Registry(tags)
    assert (registry.holds("prod"), registry.before("prod")) == (holds, before)


def test_promoted_and_put_back_as_gto_and_dvc_see_it(project: Path, tmp_path: Path) -> None:
    def in_prod() -> str:
        (seen,) = gto.api.show(".", "recognizer#prod")
        assert read_registry().holds("prod") == seen["version"]
        return str(seen["version"])

    release("major")
    change(project, 0.8)
    release("patch")
    assert promote("v1.0.0", "prod") is None
    assert promote("v1.0.1", "prod") == "v1.0.0"
    assert in_prod() == "v1.0.1"
    assert promote("v1.0.1", "prod") == "v1.0.1"  # there already: no tag
    assert promote("v1.0.0", "dev") is None
    assert run(project, "castline", "rollback").startswith("prod: v1.0.1 → v1.0.0\n")
    assert in_prod() == "v1.0.0"
    assert git("tag", "--list", "*#*").split() == [f"recognizer#{s}" for s in ("dev#3", "prod#1", "prod#2", "prod#4")]
    run(tmp_path, "dvc", "artifacts", "get", str(project), "recognizer", "--stage", "prod", "-o", "got")
    assert (tmp_path / "got/model_int8.tflite").read_text() == "0.9"
    with pytest.raises(CastlineError, match="none was there before"):
        rollback("prod")
    with pytest.raises(CastlineError, match="no version is in 'staging'; stages that hold one: dev, prod"):
        rollback("staging")


@pytest.mark.parametrize("stage", ["", "-x", "pr od", "prod\n", "#prod", "prod!", "../prod", "a//b", "--help"])
def test_a_stage_is_named_as_gto_allows(project: Path, stage: str) -> None:
    released("major")
    before = state()
    with pytest.raises(CastlineError, match="is no name for a stage"):
        promote("v1.0.0", stage)
    assert state() == before


def test_only_what_exists_is_promoted_or_compared(project: Path) -> None:
    with pytest.raises(CastlineError, match="nor any other"):
        promote("v1.0.0", "prod")
    released("major", "minor")
    for wrong in ("v3.0.0", "1.0.0", "recognizer@v1.0.0", "--all", "HEAD"):
        with pytest.raises(CastlineError, match=r"only v1\.1\.0, v1\.0\.0"):
            promote(wrong, "prod")
        with pytest.raises(CastlineError, match=r"only v1\.1\.0, v1\.0\.0"):
            compare(read_registry(), "v1.0.0", wrong)


def test_a_stage_dated_in_the_future_is_said(project: Path) -> None:
    released("major", "major")
    later = {**environment(), "GIT_COMMITTER_DATE": "2099-01-01T00:00:00Z"}
    subprocess.run(["git", "tag", "-a", "-m", "x", "recognizer#prod#1", "HEAD"], env=later, check=True)
    with pytest.raises(CastlineError, match="seconds from now"):
        promote("v1.0.0", "prod")
    assert promote("v1.0.0", "dev") is None


def test_a_project_may_name_its_stages(project: Path) -> None:
    released("major")
    Path(".gto").write_text("stages: [dev, prod]\n")
    with pytest.raises(CastlineError, match=r"(?s)'staging'.*'dev', 'prod'"):
        promote("v1.0.0", "staging")
    assert promote("v1.0.0", "prod") is None


def test_versions_and_their_differences(project: Path) -> None:
    assert "castline release minor" in run(project, "castline", "versions")
    release("minor")
    change(project, 0.8)
    release("minor")
    promote("v0.1.0", "prod")
    (project / "params.yaml").write_text(yaml.safe_dump({**PARAMS, "head": {"kind": "cosine", "quality": 0.8}}))

    registry = read_registry()
    new, old = describe(registry)
    assert (new["version"], old["version"], old["stages"]) == ("v0.2.0", "v0.1.0", ["prod"])
    assert (old["metrics"]["top1"], old["people"], old["batches"][0]["files"]) == (0.9, 2, 2)
    assert (new["data"], new["base_model"], new["mode"]) == (old["data"], "tiny_net", "full")
    head, first, second = print_versions([new, old]).splitlines()
    assert head.split()[:6] == ["version", "date", "stages", "top-1", "95", "%"]
    assert "open.fpir" in head
    assert first.split()[3:7] == ["0.8000", "0.700", "to", "1.000"]
    assert second.split()[2] == "prod"
    assert json.loads(run(project, "castline", "versions", "--json")) == [new, old]

    found = compare(registry, "v0.1.0", "v0.2.0")
    assert found["params"] == {"head.quality": [0.9, 0.8]}
    assert (found["data"], found["people"]) == ({}, {"added": [], "removed": []})
    assert re.search(r"top1 +0\.9000 +0\.8000 +-0\.1000", print_comparison(found))
    assert re.search(r"int8\.top1 +0\.9000 +0\.8000 +-0\.1000", print_comparison(found))
    assert compare(registry, "v0.2.0", "workspace")["params"] == {"head.kind": ["softmax", "cosine"]}
    assert "the same bundle, bit for bit" in run(project, "castline", "compare", "v0.2.0", "workspace")


def test_people_who_came_and_went(project: Path) -> None:
    release("minor")
    shutil.move(project / "data/one/ann", project / "data/one/carl")
    change(project, 0.9)
    found = compare(read_registry(), "v0.1.0", "workspace")
    assert found["people"] == {"added": ["carl"], "removed": ["ann"]}
    assert list(found["data"]) == ["one"]
    shutil.rmtree(project / ".dvc/cache")
    assert compare(read_registry(), "v0.1.0", "workspace")["people"] is None


def test_tags_and_reports_of_a_strangers_repository_do_no_harm(project: Path) -> None:
    """Tags that contradict each other or point nowhere useful, and files that are not what they should be."""
    released("major")
    blob = git("hash-object", "-w", "make.py").strip()
    git("tag", "-a", "-m", "a file", "recognizer@v7.0.0", blob)
    git("tag", "recognizer@v8.0.0")
    git("tag", "-a", "-m", "again, same commit", "recognizer@v1.0.1")
    for name in (
        "recognizer@v1",
        "recognizer@v01.0.0",
        "recogn\u0085izer@v1.0.0",
        f"recognizer#prod#{'9' * 120}",
        "-x",
    ):
        git("update-ref", f"refs/tags/{name}", git("rev-parse", "recognizer@v1.0.0").strip())
    shutil.rmtree("reports")
    Path("reports").mkdir()
    Path("reports/metrics.json").write_text('{"top1": "\x1b[2J", "top1_low": [], "auc": NaN, "n_people": 1e999}')
    Path("reports/export.json").write_text("[" * 100_000)
    Path("params.yaml").write_text('base_model: {name: "\\e[2Jnet"}\ntraining: [1]\ndata: {batches: [one, [two]]}\n')
    Path("dvc.lock").write_text("a: &a [x, x]\nb: &b [*a, *a]\nstages: [*b, *b]\n")
    commit(project, "Odd")
    released("major")
    output = run(project, "castline", "versions")
    assert "v1.0.1" in output
    assert "v2.0.0" in output
    assert "v7.0.0" not in output
    assert "v8.0.0" not in output
    assert "\x1b" not in output
    assert "\x1b" not in run(project, "castline", "compare", "v1.0.0", "v2.0.0")


def test_a_release_says_what_changed_since_the_one_before(project: Path) -> None:
    release("minor")
    assert "What changed" not in Path("MODEL_CARD.md").read_text()
    change(project, 0.95)
    release("minor")
    text = Path("MODEL_CARD.md").read_text()
    assert "## What changed since v0.1.0" in text
    assert r"| Named right \(top-1\) | 0.9000 | 0.9500 |" in text
    assert "| head.quality | 0.9 | 0.95 |" in text
