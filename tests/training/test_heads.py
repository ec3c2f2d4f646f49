"""Heads: what they start as, what they make of their input, what they become, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from castline.errors import BundleError, ConfigError
from castline.scoring import Scorer, softmax
from castline.training.examples import Part
from castline.training.fit import fit_head
from castline.training.heads import Array, CosineHead, Head, HeadSettings, build_head, head_of, new_head
from castline.training.settings import TrainingSettings
from castline.training.torch_head import TorchHead

KINDS = [
    HeadSettings(),
    HeadSettings(hidden=16, dropout=0.2),
    HeadSettings(kind="cosine", margin=0.3),
    HeadSettings(kind="prototype", scale=20.0),
]


def people(size: int, scale: float = 1.0, shift: float = 0.0) -> Part:
    """Raw embeddings of 5 people, 20 of each, as a base model of some scale and offset would give them."""
    chance = np.random.default_rng(0)
    who = np.repeat(np.arange(5), 20)
    features = chance.normal(size=(5, size))[who] + 0.3 * chance.normal(size=(100, size))
    return Part((features * scale + shift).astype(np.float32), who, np.arange(100))


def moved(head: Head) -> Head:
    """With weights as they might be in the midst of training."""
    chance = np.random.default_rng(1)
    head.weights = {name: chance.normal(size=array.shape).astype(np.float32) for name, array in head.weights.items()}
    return head


def shares(array: Array, wanted: torch.Tensor) -> NDArray[np.float64]:
    """How far off numbers are, as shares of the largest that is wanted."""
    reference = wanted.detach().numpy()
    assert array.shape == reference.shape and array.dtype == np.float32
    off: NDArray[np.float64] = np.abs(array - reference) / np.abs(reference).max()
    return off


def by_torch(
    head: Head, embedding: torch.Tensor, who: torch.Tensor, weights: dict[str, torch.Tensor], seed: int
) -> torch.Tensor:
    """The logits to train on as PyTorch's own functions have them, in whose graph they are."""
    settings = head.settings
    x = (embedding - torch.from_numpy(head.mean)) * torch.from_numpy(head.factor)
    if settings.kind == "softmax":
        if settings.hidden:
            x = F.relu(F.linear(x, weights["hidden_weight"], weights["hidden_bias"]))
        drawn = torch.from_numpy(np.random.default_rng(seed).random(tuple(x.shape), np.float32))
        kept = (drawn >= settings.dropout) / (1 - settings.dropout)
        return F.linear(x * kept, weights["weight"], weights["bias"])
    cosines = F.normalize(x) @ F.normalize(weights["prototypes"]).T
    own = cosines.gather(1, who[:, None])
    if settings.margin_kind == "cosface":
        worse = own - settings.margin
    else:
        angle = torch.acos(own.clamp(-1 + 1e-6, 1 - 1e-6)) + settings.margin
        worse = torch.where(angle < torch.pi, torch.cos(angle), -1 - (angle - torch.pi))
    return settings.scale * cosines.scatter(1, who[:, None], worse)


@pytest.mark.parametrize(
    "settings",
    [
        HeadSettings(),
        HeadSettings(dropout=0.3),
        HeadSettings(hidden=16),
        HeadSettings(hidden=16, dropout=0.5),
        HeadSettings(kind="cosine"),
        HeadSettings(kind="cosine", margin=0.3),
        HeadSettings(kind="cosine", margin=0.9, scale=4.0),
        HeadSettings(kind="cosine", margin=0.4, margin_kind="cosface"),
        HeadSettings(kind="prototype"),
    ],
    ids=str,
)
def test_logits_and_gradients_are_those_of_pytorch(settings: HeadSettings) -> None:
    """Beside PyTorch in double precision; and alike in its graph, where fine-tuning has them."""
    part = people(32, 3.0, 1.0)
    head = moved(new_head(settings, part, 5, seed=1))
    rows = np.random.default_rng(2).choice(100, 64)  # as balanced sampling draws: some twice, of some people few
    faces, who = part.features[rows], part.people[rows]
    if settings.kind == "cosine" and settings.margin == 0.9:
        far = head.mean - head.weights["prototypes"][who[:8]] / head.factor
        faces[:8] = far + 1.5 * np.random.default_rng(3).normal(size=far.shape)  # past the half turn

    embedding = torch.from_numpy(faces).double().requires_grad_()
    weights = {name: torch.from_numpy(array).double().requires_grad_() for name, array in head.weights.items()}
    wanted = by_torch(head, embedding, torch.from_numpy(who), weights, seed=7)
    assert settings.margin != 0.9 or wanted.min() < -settings.scale, "none is past the half turn"
    F.cross_entropy(wanted, torch.from_numpy(who)).backward()

    logits, backward = head.training(faces, who, np.random.default_rng(7))
    assert shares(logits, wanted).max() < 1e-5
    gradients, of_embedding = backward((softmax(logits) - np.eye(5, dtype=np.float32)[who]) / np.float32(len(who)))
    for name, weight in weights.items():
        assert weight.grad is not None and shares(gradients[name], weight.grad).max() < 1e-5, name
    assert embedding.grad is not None and shares(of_embedding, embedding.grad).max() < 1e-5

    module, embedding = TorchHead(head), torch.from_numpy(faces).requires_grad_()
    in_graph = module(embedding * 1, torch.from_numpy(who), np.random.default_rng(7))
    F.cross_entropy(in_graph, torch.from_numpy(who)).backward()
    assert np.array_equal(in_graph.detach().numpy(), logits)
    assert embedding.grad is not None and shares(of_embedding, embedding.grad).max() < 1e-5
    for name, parameter in module.named_parameters():
        assert parameter.requires_grad == head.learns
        if parameter.requires_grad:
            assert parameter.grad is not None and shares(gradients[name], parameter.grad).max() < 1e-5, name


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.kind)
def test_in_pytorchs_graph_it_goes_where_its_parameters_go(settings: HeadSettings) -> None:
    part = people(32)
    head = moved(new_head(settings, part, 5, seed=1))
    module = TorchHead(head)
    assert {name: array.tolist() for name, array in module.weights().items()} == {
        name: array.tolist() for name, array in head.weights.items()
    }
    before = head.logits(part.features)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-2)
    assert np.array_equal(head.logits(part.features), before), "the head itself stays"
    head.weights = module.weights()
    assert np.array_equal(head.logits(part.features), module.logits(torch.from_numpy(part.features)).numpy())
    assert not np.allclose(head.logits(part.features), before)


@pytest.mark.parametrize("hidden", [0, 16])
def test_nobody_is_likelier_than_others_at_first(hidden: int) -> None:
    head = build_head(HeadSettings(hidden=hidden), 8, 5, seed=1)
    assert not head.logits(people(8).features).any()


def test_a_hidden_layer_starts_at_random_as_its_seed_has_it() -> None:
    first, again, other = (
        build_head(HeadSettings(hidden=16), 8, 5, seed).weights["hidden_weight"] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert 0.9 * 8**-0.5 < np.abs(first).max() <= 8**-0.5


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 5.0), (400.0, -1000.0)])
def test_the_scale_of_a_base_model_makes_no_difference(scale: float, shift: float) -> None:
    part = people(32, scale, shift)
    head = new_head(HeadSettings(), part, 5, seed=1)
    seen = (part.features - head.mean) * head.factor
    assert abs(seen.mean()) < 1e-3 and np.sqrt(np.square(seen).mean()) == pytest.approx(1, rel=1e-3)
    fit_head(head, part, part, TrainingSettings(epochs=30, lr=0.01))
    assert (head.logits(part.features).argmax(1) == part.people).mean() > 0.98


def test_input_that_never_varies_stays_finite() -> None:
    head = build_head(HeadSettings(), 4, 2, seed=1)
    head.fit_input(np.full((3, 4), 7.0, np.float32), np.array([0, 1, 1]))
    assert np.isfinite(head.logits(np.full((1, 4), 7.0, np.float32))).all()


def test_dropout_is_for_training_alone_and_leaves_out_its_share() -> None:
    part = people(64)
    head = moved(new_head(HeadSettings(dropout=0.4), part, 5, seed=1))
    chance = np.random.default_rng(0)
    (once, backward), (twice, _) = (head.training(part.features, part.people, chance) for _ in range(2))
    assert not np.array_equal(once, twice)
    assert np.array_equal(head.logits(part.features), head.logits(part.features))
    _, of_embedding = backward(np.ones_like(once))
    assert (of_embedding == 0).mean() == pytest.approx(0.4, abs=0.02)
    many = np.mean([head.training(part.features, part.people, chance)[0] for _ in range(400)], axis=0)
    assert np.abs(many - head.logits(part.features)).mean() < 0.1 * np.abs(many).mean()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "oracle"}, "head.kind=oracle, allowed are softmax, cosine, prototype"),
        ({"dropout": 1.0}, "head.dropout=1.0"),
        ({"dropout": -0.1}, "head.dropout=-0.1"),
        ({"hidden": -1}, "head.hidden=-1"),
        ({"margin": 0.5}, "head.margin is of the cosine head"),
        ({"kind": "cosine", "margin": 1.5}, "head.margin=1.5"),
        ({"kind": "cosine", "margin_kind": "hope"}, "allowed are arcface, cosface"),
        ({"kind": "prototype", "hidden": 8}, "head.dropout and head.hidden are of the softmax head"),
        ({"scale": 0.0}, "head.scale=0.0"),
    ],
)
def test_settings_that_do_not_fit_are_named(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_head(HeadSettings(**change), 8, 5, seed=1)  # type: ignore[arg-type]
    assert complaint in str(refused.value)


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.kind)
def test_a_trained_head_says_the_same_and_comes_back(settings: HeadSettings, tmp_path: Path) -> None:
    part = people(32, 3.0, 1.0)
    head = moved(new_head(settings, part, 5, seed=1))
    names = ("Ann", "Bo Ek", "Çelik", '"; drop', "eve")
    for name in ("a", "b"):
        head.scorer(names).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    scorer = Scorer.read(tmp_path / "a")
    assert scorer.to_bytes() == (tmp_path / "a").read_bytes()
    embedding, scores = scorer(part.features)
    assert scorer.people == names and embedding.dtype == scores.dtype == np.float32
    plain = build_head(HeadSettings(settings.kind, hidden=settings.hidden, scale=settings.scale), 32, 5, seed=1)
    plain.mean, plain.factor, plain.weights = head.mean, head.factor, head.weights
    expected = softmax(plain.training(part.features, part.people, np.random.default_rng(0))[0])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(softmax(head_of(scorer).logits(part.features)), expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    unit = part.features / np.linalg.norm(part.features, axis=1, keepdims=True)
    np.testing.assert_allclose(embedding, unit, atol=1e-6)


def test_a_trained_head_stays_what_it_was_when_training_goes_on() -> None:
    part = people(32)
    head = new_head(HeadSettings(hidden=8), part, 5, seed=1)
    scorer = head.scorer("abcde")
    before = scorer.to_bytes()
    for further in (head, head_of(scorer)):
        fit_head(further, part, part, TrainingSettings(epochs=2))
    assert scorer.to_bytes() == before


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no head")
    scorer = build_head(HeadSettings(), 4, 2, seed=1).scorer(("ann", "bo"))
    Scorer(("ann",), {}, scorer.mean, scorer.factor, scorer.weight, scorer.bias).write(tmp_path / "short")
    for name in ("absent", "text", "short"):
        with pytest.raises(BundleError, match=f"{tmp_path / name}: no trained head"):
            Scorer.read(tmp_path / name)
    with pytest.raises(BundleError, match="no trained head"):
        Scorer.from_bytes(b"no head")


def test_a_prototype_is_each_persons_mean_and_is_not_learnt() -> None:
    part = people(32, 100.0, -40.0)
    head = new_head(HeadSettings(kind="prototype"), part, 5, seed=1)
    assert (head.logits(part.features).argmax(1) == part.people).all()
    assert not head.learns


@pytest.mark.parametrize("margin_kind", ["arcface", "cosface"])
def test_a_margin_makes_it_harder_for_the_right_person_alone(margin_kind: str) -> None:
    part = people(16)
    head = new_head(HeadSettings(kind="cosine", margin=0.4, margin_kind=margin_kind), part, 5, seed=1)
    plain, harder = (
        some / 16
        for some in (
            head.logits(part.features),
            head.training(part.features, part.people, np.random.default_rng(0))[0],
        )
    )
    own = np.eye(5, dtype=bool)[part.people]
    np.testing.assert_allclose(plain[~own], harder[~own], atol=1e-6)
    assert (harder[own] < plain[own]).all()
    if margin_kind == "cosface":
        np.testing.assert_allclose(plain[own] - harder[own], 0.4, atol=1e-5)
    else:
        np.testing.assert_allclose(np.arccos(harder[own]) - np.arccos(plain[own]), 0.4, atol=1e-3)


def test_a_margin_never_rewards_the_wrong_side() -> None:
    """Past a half turn, cos(angle + margin) would rise again: a face on the far side would be drawn away."""
    head = build_head(HeadSettings(kind="cosine", margin=0.5), 2, 1, seed=1)
    assert isinstance(head, CosineHead)
    head.weights["prototypes"] = np.array([[1.0, 0.0]], np.float32)
    angles = np.linspace(0.1, 3.1, 40, dtype=np.float32)
    faces = np.stack([np.cos(angles), np.sin(angles)], 1)
    logits, backward = head.training(faces, np.zeros(40, np.int64), np.random.default_rng(0))
    assert (logits[1:] < logits[:-1]).all()
    _, of_embedding = backward(np.ones_like(logits))
    towards = (of_embedding * np.stack([np.sin(angles), -np.cos(angles)], 1)).sum(1)
    assert (towards > 0).all(), "a step up the gradient turns a face to its prototype"
