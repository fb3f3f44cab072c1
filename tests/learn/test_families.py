"""Learning, exits and recovery of every family and form."""

from __future__ import annotations

import copy

import pytest
import torch
from learning import masks_of
from test_masks import COST, batch
from tiny_families import FORMS, made

from wdp_edge.learn.budget_term import structure_cost
from wdp_edge.learn.exits import Exits, exit_depths, forward_with_exits
from wdp_edge.learn.recovery import Recovery, RecoveryPlan, parameter_groups
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.recipe import LearnRecipe, RecoverRecipe


@pytest.mark.parametrize("form", FORMS)
def test_exits_start_as_the_model_and_end_as_what_is_cut_there(form: str) -> None:
    model = made(form)
    dense = vit.structure_of(model)
    depths = exit_depths(dense.depth, 2)
    images, _ = batch(0)
    with torch.no_grad():
        logits, early = forward_with_exits(model, Exits(model, depths), images)
        assert torch.allclose(logits, model(images), atol=1e-5)
        for depth, got in zip(depths, early, strict=True):
            kept = Kept.first(
                dense.with_widths(*zip(*((b.heads, b.hidden) for b in dense.blocks[:depth]), strict=True))
            )
            assert torch.allclose(got, cut(model, kept)(images), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_learning_moves_scores_exits_and_writers(form: str) -> None:
    model = made(form)
    masks = masks_of(model, 0.0)
    dense_ms = float(structure_cost(masks, COST).detach())
    searching = Search(model, masks, SearchGoal(COST, dense_ms, 0.5 * dense_ms, 10), LearnRecipe(exits=1))
    before = copy.deepcopy(searching.state())
    assert searching.step(*batch(0))["loss"] > 0
    after = searching.state()
    moved = {name for name, value in after["student"].items() if not torch.equal(value, before["student"][name])}
    assert moved and all("attn.proj." in name or "mlp.fc2." in name for name in moved)
    for part in ("masks", "exits"):
        assert all(not torch.equal(value, before[part][name]) for name, value in after[part].items()), part


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
