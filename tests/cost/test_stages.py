"""Models in stages: a unit of a later block counts by its MACs, in probes, in the fit, in the table and in learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_families import FORMS, SWIN, made

from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost.fit import Grid, Observation, fit_table
from wdp_edge.cost.measure import scales_of
from wdp_edge.cost.probes import plan_probes
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import from_plain
from wdp_edge.learn.budget_term import CostModel, structure_cost
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.models.vit import blocks_of
from wdp_edge.protocols.device import Kind

DEPTHS = (2, 2, 6, 2)
DENSE = Structure(
    96, tuple(BlockWidths(3 * 2**s, 32, 384 * 2**s) for s, count in enumerate(DEPTHS) for _ in range(count))
)
SCALES = tuple((0.5**s, 0.5**s) for s, count in enumerate(DEPTHS) for _ in range(count))


def milliseconds(structure: Structure) -> float:
    """A made-up device on which a unit costs half as much from stage to stage."""
    pairs = zip(structure.blocks, SCALES, strict=False)
    return 0.5 + sum(0.1 + 0.2 * b.heads * h + 0.05 + 0.001 * b.hidden * m for b, (h, m) in pairs)


def table() -> LatencyTable:
    probes = plan_probes(DENSE, TableRecipe(), 16, scales=SCALES)
    seen = [Observation(s, milliseconds(s), True) for s in (DENSE, *probes.sizes)]
    seen += [Observation(s, milliseconds(s), False) for s in probes.chains]
    fit = fit_table(seen, Grid(probes.heads, probes.hidden, probes.head_dim, SCALES))
    attention, mlp = (
        tuple(zip(map(float, widths), map(float, ms), strict=True))
        for widths, ms in ((probes.heads, fit.attention), (probes.hidden, fit.mlp))
    )
    key = TableKey("executorch", "fp32", "local", 1, 96, 32, 3136, {})
    return LatencyTable(
        attention, mlp, fit.fixed, milliseconds(DENSE), Kind.MEASURED, key, fit.context, fit.head, SCALES
    )


def test_a_table_from_probes_predicts_other_models() -> None:
    found, rng = table(), np.random.default_rng(0)
    assert from_plain(LatencyTable, to_plain(found)) == found
    for _ in range(20):
        heads = [int(rng.integers(max(1, b.heads // 3), b.heads + 1)) for b in DENSE.blocks]
        hidden = [16 * int(rng.integers(b.hidden // 64, b.hidden // 16 + 1)) for b in DENSE.blocks]
        some = DENSE.with_widths(heads, hidden)
        assert found.predict(some) == pytest.approx(milliseconds(some), rel=0.05)


def test_learning_pays_what_the_table_says() -> None:
    found = table()
    scores = [
        [list(range(n)) for n in widths] for widths in zip(*((b.heads, b.hidden) for b in DENSE.blocks), strict=True)
    ]
    masks = Masks(DENSE, *scores, Alignment(1, 16))
    with torch.no_grad():
        masks.hidden_thresholds.fill_(0.0)
    cost = structure_cost(masks, CostModel(found.attention, found.mlp, found.fixed_ms, found.scales))
    assert cost.item() == pytest.approx(found.part_sum(DENSE.with_widths(*masks.widths())), rel=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_only_models_in_stages_have_scales(form: str) -> None:
    scales = scales_of(made(form))
    assert len(scales) == (len(blocks_of(made(form))) if form in SWIN else 0)
    assert all(0 < part <= 1 for scale in scales for part in scale)
