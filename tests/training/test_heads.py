"""Heads: what they start as, what they make of their input, what they become, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from castline.errors import BundleError, ConfigError
from castline.scoring import Scorer
from castline.training.heads import CosineHead, HeadSettings, SoftmaxHead, build_head, head_of

KINDS = [
    HeadSettings(),
    HeadSettings(hidden=16, dropout=0.2),
    HeadSettings(kind="cosine", margin=0.3),
    HeadSettings(kind="prototype", scale=20.0),
]


def people(size: int, scale: float, shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw embeddings of 5 people, 20 of each, as a base model of some scale and offset would give them."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, size, generator=generator)
    who = torch.arange(5).repeat_interleave(20)
    return (centres[who] + 0.3 * torch.randn(100, size, generator=generator)) * scale + shift, who


@pytest.mark.parametrize("hidden", [0, 16])
def test_nobody_is_likelier_than_others_at_first(hidden: int) -> None:
    head = build_head(HeadSettings(hidden=hidden), 8, 5)
    assert torch.equal(head(torch.randn(3, 8)), torch.zeros(3, 5))


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 5.0), (400.0, -1000.0)])
def test_the_scale_of_a_base_model_makes_no_difference(scale: float, shift: float) -> None:
    features, who = people(32, scale, shift)
    head = build_head(HeadSettings(), 32, 5)
    assert isinstance(head, SoftmaxHead)
    head.fit_input(features, who)
    seen = (features - head.input_mean) * head.input_factor
    assert seen.mean().abs() < 1e-3 and seen.square().mean().sqrt() == pytest.approx(1, rel=1e-3)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(head(features), who).backward()
        optimizer.step()
    assert (head(features).argmax(1) == who).float().mean() > 0.98


def test_input_that_never_varies_stays_finite() -> None:
    head = SoftmaxHead(HeadSettings(), 4, 2)
    head.fit_input(torch.full((3, 4), 7.0), torch.tensor([0, 1, 1]))
    assert head(torch.full((1, 4), 7.0)).isfinite().all()


def test_dropout_is_for_training_alone() -> None:
    head = build_head(HeadSettings(dropout=0.5, hidden=16), 8, 5)
    torch.nn.init.normal_(head.last.weight)  # type: ignore[union-attr,arg-type]
    x = torch.randn(4, 8)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


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
        build_head(HeadSettings(**change), 8, 5)  # type: ignore[arg-type]
    assert complaint in str(refused.value)


@pytest.mark.parametrize("settings", KINDS, ids=lambda settings: settings.kind)
def test_a_head_in_numpy_says_the_same_and_comes_back(settings: HeadSettings, tmp_path: Path) -> None:
    features, who = people(32, 3.0, 1.0)
    torch.manual_seed(0)
    head = build_head(settings, 32, 5)
    head.fit_input(features, who)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    head.eval()
    names = ("Ann", "Bo Ek", "Çelik", '"; drop', "eve")
    for name in ("a", "b"):
        head.scorer(names).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    scorer = Scorer.read(tmp_path / "a")
    assert scorer.to_bytes() == (tmp_path / "a").read_bytes()
    embedding, scores = scorer(features.numpy())
    assert scorer.people == names and embedding.dtype == scores.dtype == np.float32
    with torch.inference_mode():
        expected = F.softmax(head(features), 1).numpy()
        again = F.softmax(head_of(scorer)(features), 1).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    np.testing.assert_allclose(again, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embedding, F.normalize(features).numpy(), atol=1e-6)


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no head")
    scorer = build_head(HeadSettings(), 4, 2).scorer(("ann", "bo"))
    Scorer(("ann",), {}, scorer.mean, scorer.factor, scorer.weight, scorer.bias).write(tmp_path / "short")
    for name in ("absent", "text", "short"):
        with pytest.raises(BundleError, match=f"{tmp_path / name}: no trained head"):
            Scorer.read(tmp_path / name)
    with pytest.raises(BundleError, match="no trained head"):
        Scorer.from_bytes(b"no head")


def test_a_prototype_is_each_persons_mean_and_is_not_learnt() -> None:
    features, who = people(32, 100.0, -40.0)
    head = build_head(HeadSettings(kind="prototype"), 32, 5)
    head.fit_input(features, who)
    assert (head(features).argmax(1) == who).all()
    assert not any(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize("margin_kind", ["arcface", "cosface"])
def test_a_margin_makes_it_harder_for_the_right_person_alone(margin_kind: str) -> None:
    features, who = people(16, 1.0, 0.0)
    head = build_head(HeadSettings(kind="cosine", margin=0.4, margin_kind=margin_kind), 16, 5)
    assert isinstance(head, CosineHead)
    head.fit_input(features, who)
    plain, harder = head(features), head.training_logits(features, who)
    own = F.one_hot(who, 5).bool()
    assert torch.equal(plain[~own], harder[~own])
    assert (harder[own] < plain[own]).all()
    if margin_kind == "cosface":
        torch.testing.assert_close(plain[own] - harder[own], torch.full((100,), 0.4 * 16))
    else:
        angles = torch.acos(harder[own] / 16) - torch.acos(plain[own] / 16)
        torch.testing.assert_close(angles, torch.full((100,), 0.4), atol=1e-3, rtol=0)


def test_a_margin_never_rewards_the_wrong_side() -> None:
    """Past a half turn, cos(angle + margin) would rise again: a face on the far side would be drawn away."""
    head = build_head(HeadSettings(kind="cosine", margin=0.5), 2, 1)
    assert isinstance(head, CosineHead)
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor([[1.0, 0.0]]))
    angles = torch.linspace(0.1, 3.1, 40)
    logits = head.training_logits(torch.stack([angles.cos(), angles.sin()], 1), torch.zeros(40, dtype=torch.int64))
    assert (logits[1:] < logits[:-1]).all()
