"""The search for widths: what learns, that it reaches the budget, and that it goes on where it stopped."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from learning import COST, batch, masks_of, narrow_masks, tiny_masks
from tiny_families import FORMS, made

from wdp_edge.config.recipe import LearnRecipe
from wdp_edge.learn.budget_term import structure_cost
from wdp_edge.learn.checkpoint import load_state, save_state
from wdp_edge.learn.search import Search, SearchGoal, search
from wdp_edge.runs.stages import REACHED


def search_of(model: Any, steps: int = 40) -> Search:
    dense_ms = float(structure_cost(tiny_masks(model), COST).detach())
    return Search(model, tiny_masks(model), SearchGoal(COST, dense_ms, 0.5 * dense_ms, steps), LearnRecipe(exits=1))


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
    assert groups["scores"]["lr"] == options.scores_lr
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


@pytest.mark.parametrize("steps", [16, 40, 400])
def test_thresholds_get_to_the_budget_however_few_the_steps(tiny_model: Any, steps: int) -> None:
    """FAKE: no images; of all that pulls at thresholds only the budget is there."""
    searching = search_of(tiny_model, steps)
    for _ in range(steps):
        searching.step_towards_budget()
    cost = float(structure_cost(searching.masks, COST).detach())
    assert cost <= REACHED * searching.goal.budget_ms


def test_thresholds_move_faster_where_steps_are_few_and_settle_in_the_end() -> None:
    few, many = (SearchGoal(COST, 2.0, 1.0, steps) for steps in (18, 100_000))
    assert few.thresholds_lr(0, 0.05) > 0.5 and many.thresholds_lr(0, 0.05) == 0.05
    for goal in (few, many):
        rates = [goal.thresholds_lr(step, 0.05) for step in range(0, goal.steps, max(1, goal.steps // 20))]
        assert rates == sorted(rates, reverse=True) and rates[-1] < 0.25 * rates[0]
        # By half of the ramp at most, thresholds can have come from keeping 97 % to keeping half.
        assert goal.thresholds_lr(0, 0.05) * goal.steps / 4 >= 3.4


def test_block_outputs_count_only_where_asked_for(tiny_model: Any) -> None:
    dense_ms = float(structure_cost(tiny_masks(tiny_model), COST).detach())
    moved = []
    for weight in (0.0, 50.0):
        goal, options = SearchGoal(COST, dense_ms, 0.5 * dense_ms, 10), LearnRecipe(exits=1, features=weight)
        searching = Search(tiny_model, masks_of(tiny_model, 0.0), goal, options)
        values = searching.step(*batch(0))
        assert bool(values["features"]) == bool(weight)
        moved.append([s.detach().clone() for s in searching.masks.hidden_scores])
    assert any(not torch.equal(a, b) for a, b in zip(*moved, strict=True))


def test_channels_of_heads_are_learned_where_they_may_be_fewer(tiny_model: Any) -> None:
    masks = narrow_masks(tiny_model, 0.97)
    dense_ms = float(structure_cost(masks, COST).detach())
    searching = Search(tiny_model, masks, SearchGoal(COST, dense_ms, 0.5 * dense_ms, 60), LearnRecipe(exits=1))
    assert {"channels_thresholds"} <= set(searching.state()["masks"])
    values = [searching.step(*batch(number)) for number in range(60)]
    assert values[0]["keep_channels"] == pytest.approx(0.97, abs=0.01) and values[-1]["keep_channels"] < 0.97
    assert values[-1]["cost_ms"] <= REACHED * values[-1]["budget_ms"]


def test_a_search_that_begins_at_its_budget_has_no_ramp(tiny_model: Any) -> None:
    goal = SearchGoal(COST, 1.0, 1.0, 20)
    assert [goal.budget_at(step) for step in (0, 10, 19)] == [1.0] * 3
    assert goal.thresholds_lr(0, 0.02) == 0.02 and 0 < goal.thresholds_lr(19, 0.02) < 0.01


def test_a_restored_search_goes_on_bit_identically(tiny_model: Any, tmp_path: Path) -> None:
    straight, stopped = search_of(tiny_model), search_of(tiny_model)
    for number in range(6):
        straight.step(*batch(number))
    for number in range(3):
        stopped.step(*batch(number))
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


def test_a_checkpoint_of_a_version_that_learned_less_is_not_used(tiny_model: Any, tmp_path: Path) -> None:
    older = search_of(tiny_model, 4)
    older.step(*batch(0))
    save_state(tmp_path / "state", older.state())
    stream: Any = SimpleNamespace(batches=lambda start, stop: (batch(number) for number in range(start, stop)))
    masks = narrow_masks(tiny_model, 0.97)
    found = search(tiny_model, masks, older.goal, LearnRecipe(exits=1), stream, tmp_path / "state")
    assert len(found.keep_channels) == 3 and found.curve[-1].step == 4 and found.curve[0].step == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_step_of_learning_moves_scores_exits_and_writers(form: str) -> None:
    model = made(form)
    masks = masks_of(model, 0.0)
    dense_ms = float(structure_cost(masks, COST).detach())
    options = LearnRecipe(exits=1, features=1.0)
    searching = Search(model, masks, SearchGoal(COST, dense_ms, 0.5 * dense_ms, 10), options)
    before = copy.deepcopy(searching.state())
    values = searching.step(*batch(0))
    assert values["loss"] > 0 and values["features"] > 0
    after = searching.state()
    moved = {name for name, value in after["student"].items() if not torch.equal(value, before["student"][name])}
    assert moved and all("attn.proj." in name or "mlp.fc2." in name for name in moved)
    for part in ("masks", "exits"):
        assert all(not torch.equal(value, before[part][name]) for name, value in after[part].items()), part
