"""Recovery: what is decayed, how fast it learns, and that it brings a damaged model closer."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from learning import batch
from tiny_families import FORMS, made
from tiny_vit import TINY

from wdp_edge.config.recipe import RecoverRecipe
from wdp_edge.learn.recovery import Recovery, RecoveryPlan, feature_goals, parameter_groups
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.task import Output


def test_recovery_groups(tiny_model: Any) -> None:
    groups = {g["name"]: g for g in parameter_groups(tiny_model, 0.02)}
    ids = {id(p) for p in groups["matrices"]["params"]}
    decayed = {n for n, p in tiny_model.named_parameters() if id(p) in ids}
    assert decayed == {
        n for n, _ in tiny_model.named_parameters() if n.endswith("weight") and "norm" not in n and "embed" not in n
    }
    assert groups["others"]["weight_decay"] == 0
    assert len(ids) + len(groups["others"]["params"]) == len(list(tiny_model.parameters()))


def test_recovery_brings_a_damaged_model_closer(tiny_model: Any) -> None:
    damaged = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for p in damaged.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    recovery = Recovery(tiny_model, damaged, RecoveryPlan(60), RecoverRecipe(lr=2e-3, distillation=1.0))
    losses = [recovery.step(*batch(number % 4))["distillation"] for number in range(60)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_rate_falls_with_the_distance_from_the_dense_model(tiny_model: Any) -> None:
    rates, distances = [], []
    for noise in (0.0005, 0.002, 2.0):
        changed = copy.deepcopy(tiny_model)
        with torch.no_grad():
            for p in changed.parameters():
                p.add_(noise * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
        recovery = Recovery(tiny_model, changed, RecoveryPlan(10), RecoverRecipe(warmup=0.0))
        first = recovery.step(*batch(0))
        distances.append(first["features"] ** 0.5)
        rates.append(first["lr"])
        again = Recovery(tiny_model, changed, RecoveryPlan(10), RecoverRecipe(warmup=0.0))
        again.restore(recovery.state())
        assert again.rate(5) == recovery.rate(5), "a resumed run goes on at its rate"
    assert all(rate >= 0.999 * RecoverRecipe().lr * min(1.0, d) for rate, d in zip(rates, distances, strict=True))
    assert rates[0] < rates[1] < rates[2] == RecoverRecipe().lr


def test_an_exit_whose_head_does_not_fit_is_far_away(tiny_model: Any) -> None:
    blocks = structure_of(tiny_model).blocks[:1]
    early = cut(
        tiny_model, Kept(tuple(tuple(range(b.heads)) for b in blocks), tuple(tuple(range(b.hidden)) for b in blocks))
    )
    recovery = Recovery(tiny_model, early, RecoveryPlan(10), RecoverRecipe(warmup=0.0))
    first = recovery.step(*batch(0))
    assert first["features"] < 1e-3
    assert first["lr"] > 0.5 * RecoverRecipe().lr


@pytest.mark.parametrize(
    ("classes", "depth", "goals"),
    [(3, 3, {1: 1, 2: 2, 3: 3}), (3, 2, {1: 1}), (3, 1, {1: 1}), (0, 3, {1: 1, 2: 2, 3: 3}), (0, 2, {1: 1, 2: 3})],
)
def test_an_exit_with_a_classifier_leaves_its_last_block_free(classes: int, depth: int, goals: dict[int, int]) -> None:
    output = Output.LOGITS if classes else Output.EMBEDDING
    model: Any = create(replace(TINY, num_classes=classes, output=output))
    dense = structure_of(model)
    small = cut(model, Kept.first(replace(dense, blocks=dense.blocks[:depth])))
    assert feature_goals(small, 3, 6) == goals


@pytest.mark.parametrize("form", FORMS)
def test_recovery_comes_closer(form: str) -> None:
    model = made(form)
    damaged = copy.deepcopy(model)
    with torch.no_grad():
        for p in damaged.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    options = RecoverRecipe(lr=3e-3, distillation=1.0, warmup=0.05)
    recovery = Recovery(model, damaged, RecoveryPlan(40), options)
    values = [recovery.step(*batch(number % 4)) for number in range(40)]
    assert values[-1]["features"] < 0.7 * values[0]["features"]
    assert values[-1]["distillation"] < values[0]["distillation"]


@pytest.mark.parametrize("form", FORMS)
def test_what_timm_exempts_is_not_decayed(form: str) -> None:
    model = made(form)
    decayed = {id(p) for p in parameter_groups(model, 0.02)[0]["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert names and not names & model.no_weight_decay()
