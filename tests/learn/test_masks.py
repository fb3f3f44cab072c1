from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_vit import TINY

from wdp_edge.learn.budget_term import AugmentedLagrangian, CostModel, interpolate, structure_cost
from wdp_edge.learn.exits import exit_depths
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.masks import Alignment, Masks, TopK, kept_count
from wdp_edge.learn.recovery import Recovery, RecoveryPlan, feature_goals, parameter_groups
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.models.vit import structure_of
from wdp_edge.recipe import LearnRecipe, RecoverRecipe
from wdp_edge.task import Output

COST = CostModel([(1, 0.1), (4, 0.4)], [(8, 0.05), (128, 0.8)], 0.2)


def masks_of(model: Any) -> Masks:
    structure = structure_of(model)
    return Masks(
        structure,
        [[0.1, 0.9, 0.5, 0.3]] * 3,
        [[i / 128 for i in range(128)]] * 3,
        Alignment(1, 8),
    )


@given(st.floats(0.001, 1.0), st.integers(1, 300), st.integers(1, 32))
def test_kept_count_is_aligned_and_never_zero(keep: float, units: int, multiple: int) -> None:
    kept = kept_count(keep, units, multiple)
    assert 1 <= kept <= units
    assert kept == units or kept % multiple == 0
    assert kept >= keep * units - 1e-6


def test_topk_and_its_straight_through_gradients() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.3], requires_grad=True)
    keep = torch.tensor(0.5, requires_grad=True)
    mask = TopK.apply(scores, keep, 2)
    assert mask.tolist() == [0, 1, 1, 0]
    mask.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert scores.grad is not None and scores.grad.tolist() == [1, 2, 3, 4]
    # Next to the threshold stand unit 2 (kept last) and unit 3 (first out): mean 3.5, times 4 units.
    assert keep.grad is not None and keep.grad.item() == pytest.approx(14.0)


def test_no_masks_is_the_dense_model(tiny_model: Any) -> None:
    images = torch.randn(2, 3, 16, 16)
    expected = tiny_model(images)
    with MaskedForward(tiny_model):
        assert torch.equal(tiny_model(images), expected)
    assert not tiny_model.blocks[0].mlp.fc2._forward_pre_hooks


def test_cost_is_that_of_the_rounded_structure_and_pulls_at_the_thresholds(tiny_model: Any) -> None:
    masks = masks_of(tiny_model)
    with torch.no_grad():
        masks.hidden_thresholds.fill_(0.1)
    cost = structure_cost(masks, COST)
    heads, hidden = masks.widths()
    assert hidden == [72, 72, 72] and heads == [4, 4, 4]
    expected = 0.2 + sum(float(interpolate(COST.attention, torch.tensor(float(h)))) for h in heads)
    expected += sum(float(interpolate(COST.mlp, torch.tensor(float(n)))) for n in hidden)
    assert cost.item() == pytest.approx(expected, rel=1e-5)
    cost.backward()
    assert masks.hidden_thresholds.grad is not None and (masks.hidden_thresholds.grad > 0).all()
    assert masks.heads_thresholds.grad is not None and (masks.heads_thresholds.grad > 0).all()


def test_lagrangian_is_silent_under_the_budget_and_bounded_over_it() -> None:
    lagrangian = AugmentedLagrangian()
    assert lagrangian(torch.tensor(0.9), 1.0).item() == 0
    for _ in range(10_000):
        lagrangian.ascend(3.0, 1.0)
    assert lagrangian.multiplier == lagrangian.limit
    for _ in range(10_000):
        lagrangian.ascend(0.5, 1.0)
    assert lagrangian.multiplier == 0


def search_of(model: Any, steps: int = 40) -> Search:
    dense_ms = float(structure_cost(masks_of(model), COST).detach())
    return Search(model, masks_of(model), SearchGoal(COST, dense_ms, 0.5 * dense_ms, steps), LearnRecipe(exits=1))


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 4, (8,), generator=generator)


def test_optimiser_groups_by_kind_of_parameter(tiny_model: Any) -> None:
    searching = search_of(tiny_model)
    groups = {g["name"]: g for g in searching.optimiser.param_groups}
    assert set(groups) == {"scores", "thresholds", "weights", "exits"}
    options = LearnRecipe()
    named = {id(p): n for n, p in searching.masks.named_parameters()}
    assert all("scores" in named[id(p)] for p in groups["scores"]["params"])
    assert len(groups["scores"]["params"]) == 6
    assert {named[id(p)] for p in groups["thresholds"]["params"]} == {"heads_thresholds", "hidden_thresholds"}
    assert groups["scores"]["weight_decay"] == groups["thresholds"]["weight_decay"] == 0
    assert groups["scores"]["lr"] == options.scores_lr and groups["thresholds"]["lr"] == options.thresholds_lr
    moving = {id(p) for p in groups["weights"]["params"]}
    names = {n for n, p in searching.student.named_parameters() if id(p) in moving}
    assert names == {n for n, _ in searching.student.named_parameters() if "attn.proj." in n or "mlp.fc2." in n}


def test_learning_reaches_the_budget_and_does_not_fall_through(tiny_model: Any) -> None:
    searching = search_of(tiny_model, steps=150)
    before = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    values = {}
    for number in range(150):
        values = searching.step(*batch(number))
    assert 0.6 * values["budget_ms"] <= values["cost_ms"] <= 1.1 * values["budget_ms"]
    assert all(torch.equal(before[k], v) for k, v in tiny_model.state_dict().items()), "the dense model is not touched"


def test_a_restored_search_goes_on_bit_identically(tiny_model: Any, tmp_path: Path) -> None:
    straight, stopped = search_of(tiny_model), search_of(tiny_model)
    for number in range(6):
        straight.step(*batch(number))
    for number in range(3):
        stopped.step(*batch(number))
    from wdp_edge.learn.checkpoint import load_state, save_state

    save_state(tmp_path / "state", stopped.state())
    state = load_state(tmp_path / "state")
    assert state is not None
    resumed = search_of(tiny_model)
    resumed.restore(state)
    for number in range(3, 6):
        resumed.step(*batch(number))
    for a, b in zip(straight.masks.parameters(), resumed.masks.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(straight.student.parameters(), resumed.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_exit_depths_keep_half_of_the_blocks() -> None:
    assert exit_depths(12, 2) == [10, 11]
    assert exit_depths(4, 9) == [2, 3]
    assert exit_depths(1, 2) == []


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
