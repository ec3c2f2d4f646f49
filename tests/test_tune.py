"""The search-space file, and what `castline tune` refuses before any trial runs."""

from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from projects import ROOT, make_project, run

from castline.errors import CastlineError, ConfigError, DataError
from castline.tuning import search, study

PARSER = OverridesParser.create()


def written(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_is_read() -> None:
    head = search.read(ROOT / "search" / "head.yaml")
    assert head.objective == "val_loss"
    assert head.space["training.lr"] == FloatDistribution(1e-4, 3e-2, log=True)


def test_bounds_and_choices_are_typed(tmp_path: Path) -> None:
    text = """space:
  a.b: {type: float, low: 0, high: 1}
  c: {type: int, low: 1, high: 9, log: true}
  d: {choices: [x, 1, null]}"""
    assert search.read(written(tmp_path, text)).space == {
        "a.b": FloatDistribution(0.0, 1.0),
        "c": IntDistribution(1, 9, log=True),
        "d": CategoricalDistribution(["x", 1, None]),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no space to search"),
        ("space: {}", "no space to search"),
        ("[1]", "no space to search"),
        ("space: {a: [", "space.yaml: "),
        ("objective: top1\nspace: {a: {choices: [1]}}", "objective is 'top1', allowed: val_loss, val_accuracy"),
        ("colour: 1", "unknown key 'colour'"),
        ("fixed: lr=1\nspace: {a: {choices: [1]}}", "wanted is a list of overrides"),
        ("space: {a: 3}", "a is 3"),
        ("space: {a: {choices: []}}", "choices is []"),
        ("space: {a: {choices: [[1]]}}", "choices is [[1]]"),
        ("space: {a: {choices: ['${b}']}}", "choices is"),
        ("space: {a: {choices: [1], low: 2}}", "unknown key 'low'"),
        ("space: {a: {type: float, low: 2, high: 1}}", "low is 2, high is 1"),
        ("space: {a: {type: float, low: 0, high: .inf}}", "high is inf"),
        ("space: {a: {type: float, low: 0, high: 1, log: true}}", "above 0"),
        ("space: {a: {type: int, low: 0.5, high: 3}}", "write {type: float"),
        ("space: {a: {type: int, low: 1}}", "write {type: float"),
        ("space: {a: {type: word, low: 1, high: 2}}", "write {type: float"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        search.read(written(tmp_path, text))
    assert message in str(error.value)


@given(
    st.one_of(st.text(), st.text("'\\\"${},= []"), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
)
@example("null")
@example("Nan")
@example("1e5")
@example("it's \\' \\")
@example(1e-05)
def test_hydra_reads_back_exactly_what_was_written(value: search.Value) -> None:
    parsed = PARSER.parse_override(search.override("key", value))
    assert not parsed.is_sweep_override()
    assert parsed.value() == value
    assert type(parsed.value()) is type(value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1,0.5,,0.9,,1"], "no validation faces to choose settings by"),
        (["1,0.5,0.4,0.9,0.9,0"], "marks 0 epochs as kept"),
        ([], "marks 0 epochs as kept"),
    ],
)
def test_without_validation_faces_nothing_is_chosen(rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        study.objective_of("\n".join(["epoch,train_loss,val_loss,train_accuracy,val_accuracy,kept", *rows]), "val_loss")


def test_the_kept_epoch_is_the_one_that_counts() -> None:
    curves = "epoch,train_loss,val_loss,train_accuracy,val_accuracy,kept\n1,1,0.25,1,0.75,1\n2,1,0.5,1,1,0\n"
    assert study.objective_of(curves, "val_loss") == (0.25, 1)
    assert study.objective_of(curves, "val_accuracy") == (0.75, 1)


@pytest.mark.parametrize(("objective", "best"), [("val_loss", "one-0002"), ("val_accuracy", "one-0003")])
def test_the_best_is_by_the_objective_and_the_earlier_of_equals(objective: str, best: str) -> None:
    space = {"head.dropout": FloatDistribution(0.0, 0.5)}
    made = optuna.create_study(direction=search.OBJECTIVES[objective])
    for value in (None, 0.25, 0.75, 0.25, 0.75):
        trial = made.ask(space)
        made.tell(trial, value, state=TrialState.COMPLETE if value else TrialState.FAIL)
    found = study.Study("one", search.Search(objective, (), space), made, lock=0)
    assert found.best is not None
    assert found.best.experiment == best
    assert found.trials[0].reason == "killed before it ended"


def test_what_trials_could_not_start_from_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "project")
    monkeypatch.chdir(project)

    def refused(space: str, name: str = "one") -> str:
        with pytest.raises(CastlineError) as error, study.opened(name, written(tmp_path, space)):
            pass
        return str(error.value)

    dropout = "space: {head.dropout: {choices: [0.0, 0.5]}}"
    assert "'head.drop'; in head there is kind" in refused("space: {head.drop: {choices: [1]}}")
    assert "base_model is a group" in refused("space: {base_model: {choices: [nothing]}}")
    assert "both in fixed and in space" in refused(f"fixed: [head.dropout=0]\n{dropout}")
    assert "no name for a study" in refused(dropout, "../one")
    assert "no commit to start trials from" in refused(dropout)
    run(project, "castline", "compose", "head.hidden=8")
    assert "params.yaml has head.hidden=8, conf/ has 0" in refused(dropout)
    assert "no commit to start trials from" in refused(f"fixed: [head.hidden=8]\n{dropout}")
    assert not (project / ".castline").exists()


def test_a_lock_that_a_kill_left_half_written_does_not_stop_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "exps").mkdir()
    whole, torn, empty = tmp_path / "rwlock", tmp_path / "exps" / "rwlock", tmp_path / "exps" / "other"
    whole.write_text('{"a": {"read": []}}')
    torn.write_text("")
    empty.write_text("")
    study._remove_torn_locks(tmp_path)
    assert whole.exists() and not torn.exists() and empty.exists()
