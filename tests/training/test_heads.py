"""Heads: what they start as, what they make of their input, and what they refuse."""

import pytest
import torch
import torch.nn.functional as F

from castline.errors import ConfigError
from castline.training.heads import HeadSettings, SoftmaxHead, build_head


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
    head.fit_input(features)
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
    head.fit_input(torch.full((3, 4), 7.0))
    assert head(torch.full((1, 4), 7.0)).isfinite().all()


def test_dropout_is_for_training_alone() -> None:
    head = build_head(HeadSettings(dropout=0.5, hidden=16), 8, 5)
    torch.nn.init.normal_(head.layers[-1].weight)  # type: ignore[union-attr,index]
    x = torch.randn(4, 8)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "oracle"}, "head.kind=oracle, allowed are softmax"),
        ({"dropout": 1.0}, "head.dropout=1.0"),
        ({"dropout": -0.1}, "head.dropout=-0.1"),
        ({"hidden": -1}, "head.hidden=-1"),
    ],
)
def test_settings_that_do_not_fit_are_named(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_head(HeadSettings(**change), 8, 5)  # type: ignore[arg-type]
    assert complaint in str(refused.value)
