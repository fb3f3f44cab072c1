"""The budget as a penalty: its cost is that of the rounded structure, and its multiplier stays within bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning import COST, narrow_masks, tiny_masks

from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.learn.budget_term import AugmentedLagrangian, CostModel, interpolate, structure_cost
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.models import vit
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.device import Kind


def test_cost_is_that_of_the_rounded_structure_and_pulls_at_the_thresholds(tiny_model: Any) -> None:
    masks = tiny_masks(tiny_model)
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


def test_the_last_block_costs_by_its_own_slopes(tiny_model: Any) -> None:
    masks = tiny_masks(tiny_model)
    cost = structure_cost(masks, replace(COST, last=(0.01, 0.001)))
    heads, hidden = masks.widths()
    before = sum(float(interpolate(COST.attention, torch.tensor(float(h)))) for h in heads[:-1])
    before += sum(float(interpolate(COST.mlp, torch.tensor(float(n)))) for n in hidden[:-1])
    assert cost.item() == pytest.approx(0.2 + before + 0.01 * heads[-1] + 0.001 * hidden[-1], rel=1e-5)
    cost.backward()
    assert masks.hidden_thresholds.grad is not None and (masks.hidden_thresholds.grad > 0).all()


def test_narrow_heads_cost_what_the_table_says(tiny_model: Any) -> None:
    table = LatencyTable(
        attention=((1.0, 0.1), (4.0, 0.4)),
        mlp=((8.0, 0.05), (128.0, 0.8)),
        fixed_ms=0.2,
        dense_ms=4.0,
        kind=Kind.MEASURED,
        key=TableKey("executorch", "fp32", "test", 1, 32, 8, 17, {}),
        context=(),
        head_ms=0.03,
    )
    masks = narrow_masks(tiny_model, 0.4)
    assert masks.channels() == [4, 4, 4]
    heads, hidden = masks.widths()
    expected = table.predict(vit.structure_of(tiny_model).with_widths(heads, hidden, masks.channels()))
    cost = structure_cost(masks, replace(COST, head=table.head_ms))
    assert cost.item() == pytest.approx(expected, rel=1e-5)
    cost.backward()
    assert masks.channels_thresholds is not None and masks.channels_thresholds.grad is not None
    assert (masks.channels_thresholds.grad > 0).all()


def test_lagrangian_is_silent_under_the_budget_and_bounded_over_it() -> None:
    lagrangian = AugmentedLagrangian()
    assert lagrangian(torch.tensor(0.9), 1.0).item() == 0
    for _ in range(10_000):
        lagrangian.ascend(3.0, 1.0)
    assert lagrangian.multiplier == lagrangian.limit
    for _ in range(10_000):
        lagrangian.ascend(0.5, 1.0)
    assert lagrangian.multiplier == 0


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 5)), min_size=2, max_size=6), st.data())
def test_between_two_measured_widths_a_width_costs_what_lies_between(
    steps: list[tuple[int, float]], data: st.DataObject
) -> None:
    points = [(float(sum(s for s, _ in steps[: i + 1])), ms) for i, (_, ms) in enumerate(steps)]
    assert interpolate(points, torch.tensor([w for w, _ in points])).tolist() == pytest.approx(
        [ms for _, ms in points], abs=1e-4
    )
    place, share = data.draw(st.integers(0, len(points) - 2)), data.draw(st.floats(0.01, 0.99))
    (low, before), (high, after) = points[place : place + 2]
    width = torch.tensor(low + share * (high - low), requires_grad=True)
    ms = interpolate(points, width)
    assert ms.item() == pytest.approx(before + share * (after - before), abs=1e-3)
    (slope,) = torch.autograd.grad(ms, width)
    assert slope.item() == pytest.approx((after - before) / (high - low), abs=1e-4)


def test_an_attention_that_is_gone_costs_nothing() -> None:
    structure = Structure(32, (BlockWidths(2, 32, 64), BlockWidths(0, 0, 64)))
    masks = Masks(structure, [[0.1, 0.2], []], [list(range(64))] * 2, Alignment(1, 8), narrow=(16, 24))
    masks.start_at(structure)
    cost = structure_cost(masks, CostModel([(1, 0.1), (2, 0.2)], [(8, 0.1), (64, 0.8)], 0.1, head=0.01))
    assert cost.item() == pytest.approx(0.1 + 0.2 + 2 * 0.8)
    cost.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in masks.parameters())
