"""What removing heads and hidden units costs after a refit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cut_models import error, pictures, prepare, saliency_of
from tiny_families import FORMS, made

from wdp_edge.errors import InputError
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.shrink.compensation import compensate
from wdp_edge.shrink.saliency import Importance, importance


def test_redundant_and_silent_units_are_the_least_important() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 6, generator=generator, dtype=torch.float64)
    z[:, 1] = z[:, 0] + 0.01 * torch.randn(2000, generator=generator, dtype=torch.float64)
    z[:, 4] *= 1e-3
    covariance = torch.cov(z.T)
    found = importance(covariance, torch.eye(6, dtype=torch.float64), 1, 1)
    assert found.order[0] == 4
    assert found.order[1] in (0, 1)
    assert sorted(found.order) == list(range(6))
    assert list(found.cost) == sorted(found.cost) and found.cost[0] == 0


def test_importance_is_the_residual_of_the_refit() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    z = torch.randn(5000, 8, generator=generator, dtype=torch.float64) @ mix
    z -= z.mean(0)
    weight = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    found = importance(z.T @ z / len(z), weight, 2, 1)
    for gone in (1, 2, 3):
        kept = [c for unit in found.keep(4 - gone) for c in (2 * unit, 2 * unit + 1)]
        target = z @ weight.T
        residual = target - z[:, kept] @ torch.linalg.lstsq(z[:, kept], target).solution
        assert found.cost[gone] == pytest.approx(float(residual.square().sum(1).mean()), rel=0.05)


@pytest.mark.parametrize("form", FORMS)
def test_saliency_knows_every_form(form: str) -> None:
    model = made(form)
    found = saliency_of(model, pictures(64))
    for block, heads, hidden in zip(vit.structure_of(model).blocks, found.heads, found.hidden, strict=True):
        assert sorted(heads.order) == list(range(block.heads)) and sorted(hidden.order) == list(range(block.hidden))
        assert 0 < heads.cost[-1] < float("inf") and 0 < hidden.cost[-1] < float("inf")


def test_saliency_covers_every_unit_and_leaves_the_model_alone(tiny_model: Any) -> None:
    before = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    found = saliency_of(tiny_model, pictures(64))
    assert [sorted(r.order) for r in found.heads] == [[0, 1, 2, 3]] * 3
    assert all(sorted(r.order) == list(range(128)) for r in found.hidden)
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items())
    assert all(p.requires_grad for p in tiny_model.parameters())


def test_saliency_beats_the_opposite_choice(tiny_model: Any) -> None:
    found = saliency_of(tiny_model, pictures(256))
    good = Kept(tuple(r.keep(2) for r in found.heads), tuple(r.keep(40) for r in found.hidden))
    bad = Kept(
        tuple(tuple(sorted(r.order[:2])) for r in found.heads), tuple(tuple(sorted(r.order[:40])) for r in found.hidden)
    )
    errors = []
    for kept in (good, bad):
        small = cut(tiny_model, kept)
        compensate(tiny_model, small, pictures(256), prepare)
        errors.append(error(tiny_model, small, pictures(64, seed=9)))
    assert errors[0] < errors[1]


@pytest.mark.parametrize(("order", "cost"), [((0, 0), (0.0, 1.0, 2.0)), ((0, 2), (0.0, 1.0, 2.0)), ((0, 1), (0.0,))])
def test_a_damaged_record_is_refused(order: tuple[int, ...], cost: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="damaged"):
        Importance(order, cost)


def test_what_stays_and_what_it_costs() -> None:
    found = Importance((2, 0, 1), (0.0, 0.5, 1.0, 4.0))
    assert [found.keep(n) for n in range(4)] == [(), (1,), (0, 1), (0, 1, 2)]
    assert [found.lost(n) for n in range(4)] == [4.0, 1.0, 0.5, 0.0]
