"""A table is recovered from what models of known cost would take."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost.fit import Fit, Grid, Observation, fit_table, read_context, rising
from wdp_edge.cost.probes import Probes, plan_probes
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.device import Kind

DENSE = Structure(384, (BlockWidths(6, 64, 1536),) * 12)
OPTIONS = TableRecipe()


def grid_of(probes: Probes) -> Grid:
    return Grid(probes.heads, probes.hidden, probes.head_dim)


def parts(structure: Structure) -> float:
    """A made-up device: overhead per sub-layer, a kink in the heads, a saturating MLP, and a fixed part."""
    widths = [(b.heads, b.heads * b.head_dim / 64) for b in structure.blocks if b.heads]
    attention = [0.03 + 0.009 * full + 0.004 * max(0, full - 4) + 0.002 * heads for heads, full in widths]
    mlp = [0.01 + 0.1 * (b.hidden / 1536) ** 0.9 for b in structure.blocks if b.hidden]
    return 0.08 + sum(attention) + sum(mlp)


def latency(structure: Structure, penalty: float) -> float:
    """What outgrows the caches, here models above a third of the dense one, takes up to `penalty` times longer."""
    share = parts(structure) / parts(DENSE)
    return parts(structure) * (1 + (penalty - 1) * min(1.0, max(0.0, (share - 1 / 3) * 2)))


def observations(penalty: float, noise: float = 0.0) -> list[Observation]:
    probes, rng = plan_probes(DENSE, OPTIONS, 16, narrow=True), np.random.default_rng(0)
    seen = [Observation(s, latency(s, penalty), True) for s in (DENSE, *probes.sizes)]
    seen += [Observation(s, latency(s, penalty), False) for s in probes.chains]
    return [Observation(o.structure, o.ms * (1 + noise * rng.standard_normal()), o.size) for o in seen]


@cache
def table(penalty: float, noise: float) -> LatencyTable:
    probes = plan_probes(DENSE, OPTIONS, 16, narrow=True)
    return table_of(fit_table(observations(penalty, noise), grid_of(probes)), probes)


def table_of(fit: Fit, probes: Probes) -> LatencyTable:
    attention = tuple(zip(map(float, probes.heads), map(float, fit.attention), strict=True))
    mlp = tuple(zip(map(float, probes.hidden), map(float, fit.mlp), strict=True))
    key = TableKey("executorch", "fp32", "local", 1, 384, 64, 17, {})
    return LatencyTable(attention, mlp, fit.fixed, 1.0, Kind.MEASURED, key, fit.context, fit.head, last=fit.last)


# As selection draws them: down to single heads of a quarter of the channels, 16 hidden units and budgets of 15 %.
some_structures = (
    st.lists(
        st.builds(
            BlockWidths,
            st.integers(0, 6),
            st.sampled_from([64, 48, 32, 16]),
            st.just(0) | st.integers(1, 96).map(lambda n: 16 * n),
        ),
        min_size=8,
        max_size=12,
    )
    .map(lambda blocks: Structure(384, tuple(blocks)))
    .filter(lambda s: parts(s) >= 0.15 * parts(DENSE))
)


@settings(max_examples=25, deadline=None)
@given(some_structures, st.sampled_from([1.0, 1.2, 1.8]))
def test_exact_timings_predict_any_structure(structure: Structure, penalty: float) -> None:
    assert table(penalty, 0.0).predict(structure) == pytest.approx(latency(structure, penalty), rel=0.04)


@settings(max_examples=25, deadline=None)
@given(some_structures)
def test_one_percent_noise_stays_within_five(structure: Structure) -> None:
    assert table(1.2, 0.01).predict(structure) == pytest.approx(latency(structure, 1.2), rel=0.05)


def test_what_a_sublayer_takes_however_narrow_it_is_is_seen() -> None:
    """Narrow heads and MLPs were 9 to 30 % off while the grids began at whole heads and an eighth of the MLP."""
    narrow = Structure(384, (BlockWidths(1, 16, 16),) * 12)
    assert table(1.0, 0.0).predict(narrow) == pytest.approx(latency(narrow, 1.0), rel=0.01)


def test_nothing_is_negative_and_wider_never_cheaper() -> None:
    probes = plan_probes(DENSE, OPTIONS, 16, narrow=True)
    fit = fit_table(observations(1.2, noise=0.05), grid_of(probes))
    assert fit.fixed >= 0 and (fit.attention >= 0).all() and (fit.mlp >= 0).all()
    assert (np.diff(fit.attention) >= 0).all() and (np.diff(fit.mlp) >= 0).all()


def reads_first(structure: Structure) -> float:
    """A device whose files compute what follows the last attention for one token."""
    last = structure.last_attention
    cheap = sum(0.004 * b.heads * b.head_dim / 64 + 0.005 * b.hidden / 1536 for b in structure.blocks[last:])
    return parts(replace(structure, blocks=structure.blocks[:last])) + cheap if last else 0.08 + cheap


@settings(max_examples=25, deadline=None)
@given(some_structures)
def test_a_last_block_with_a_cost_of_its_own(structure: Structure) -> None:
    probes = plan_probes(DENSE, OPTIONS, 16, narrow=True, last=True)
    seen = [Observation(s, reads_first(s), True) for s in (DENSE, *probes.sizes)]
    seen += [Observation(s, reads_first(s), False) for s in probes.chains]
    fit = fit_table(seen, replace(grid_of(probes), last=True))
    assert fit.last == pytest.approx((0.004, 0.005 / 1536), rel=0.02)
    assert table_of(fit, probes).predict(structure) == pytest.approx(reads_first(structure), rel=0.04)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_rising_never_falls_and_keeps_the_mean(ms: list[float]) -> None:
    result = rising(np.array(ms))
    assert (np.diff(result) >= 0).all()
    assert result.mean() == pytest.approx(np.mean(ms), abs=1e-9)


@given(st.lists(st.floats(0.05, 20), min_size=len(DENSE.blocks), max_size=20), st.integers(0, 4))
def test_the_context_rises(times: list[float], chains: int) -> None:
    """Whatever was measured, also what makes no sense."""
    sizes = [DENSE.with_widths([6] * (1 + i % 12), [1536] * (1 + i % 12)) for i in range(len(times))]
    seen = [Observation(s, ms, i >= chains) for i, (s, ms) in enumerate(zip(sizes, times, strict=True))]
    theta = np.array([0.1, 0.01, 0.2, 0.1])
    line = read_context(theta, seen, Grid([6], [1536], 64))
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(line))
    assert line == () or line[0][0] > 0
