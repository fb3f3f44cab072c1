"""Where the search for widths begins."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.learn.budget_term import CostModel, structure_cost
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import Kind
from wdp_edge.pruning.choose import Steps
from wdp_edge.pruning.widths import Beginning, closed_form, positions, started_masks
from wdp_edge.select.rankings import Ranking
from wdp_edge.shrink.axes import NarrowHeads
from wdp_edge.shrink.saliency import Importance

ARGS = {"img_size": 16, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
TABLE = LatencyTable(
    attention=((1.0, 0.5), (2.0, 1.0)),
    mlp=((16.0, 0.1), (256.0, 1.6)),
    fixed_ms=0.5,
    dense_ms=5.7,
    kind=Kind.MEASURED,
    key=TableKey("executorch", "fp32", "test", 1, 64, 32, 5, {}),
    context=(),
    head_ms=0.05,
)
BENCH: Any = SimpleNamespace(
    table=TABLE, tools=SimpleNamespace(target=SimpleNamespace(mlp_width_multiple=16)), aim=lambda margin: 3.0
)


def curve(order: tuple[int, ...], scale: float) -> Importance:
    count = len(order)
    return Importance(order, tuple(scale * (k / count) ** 2 for k in range(count + 1)))


def ranking(narrow: bool = True) -> Ranking:
    """Head 0 is the first to go, but of narrow heads it is head 1."""
    heads = curve((0, 1), 1.0)
    fewer = [[NarrowHeads(width, cost, curve((1, 0), 1.0)) for width, cost in ((16, 0.05), (24, 0.02))]] * 2
    return Ranking("x", (heads, heads), (curve(tuple(range(256)), 1.0),) * 2, fewer if narrow else ())


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return create(ModelSpec("vit_tiny_patch16_224", 3, ARGS)).eval()


def beginning(narrow: bool = True) -> Beginning:
    return Beginning(ranking(narrow), PruneRecipe(), Steps(10, 0, 0, 8))


def test_masks_begin_at_the_closed_form_within_the_budget(model: Any) -> None:
    kept = closed_form(BENCH, model, beginning(), 3.0)
    assert kept is not None
    small = kept.structure(structure_of(model))
    assert {b.head_dim for b in small.blocks} <= {16, 24} and TABLE.predict(small) <= 3.0
    masks = started_masks(BENCH, model, beginning(), kept)
    heads, hidden = masks.widths()
    assert structure_of(model).with_widths(heads, hidden, masks.channels()) == small
    assert masks.heads_scores[0].tolist() == [0.75, 0.25], "narrow heads go in an order of their own"
    cost = CostModel(TABLE.attention, TABLE.mlp, TABLE.fixed_ms, head=TABLE.head_ms)
    assert structure_cost(masks, cost).item() == pytest.approx(TABLE.predict(small), rel=1e-5)


def test_whole_heads_where_the_recipe_wants_them(model: Any) -> None:
    kept = closed_form(BENCH, model, beginning(narrow=False), 3.0)
    assert kept is not None and kept.head_channels is None
    masks = started_masks(BENCH, model, beginning(narrow=False), kept)
    assert masks.channel_masks() is None and masks.heads_scores[0].tolist() == [0.25, 0.75]


def test_without_a_structure_that_fits_nearly_all_is_kept_at_first(model: Any) -> None:
    hopeless = replace(TABLE, fixed_ms=4.0)
    bench: Any = SimpleNamespace(**{**vars(BENCH), "table": hopeless})
    assert closed_form(bench, model, beginning(), 3.0) is None
    assert started_masks(BENCH, model, beginning(), None).widths() == ([2, 2], [256, 256])


def test_scores_begin_with_the_place_in_the_order() -> None:
    assert positions(curve((2, 0, 1), 1.0)) == [pytest.approx(0.5), pytest.approx(5 / 6), pytest.approx(1 / 6)]
