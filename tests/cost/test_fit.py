"""wdp_edge/cost/fit.py and probes.py: a table is recovered from what models of known cost would take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.cost.fit import Observation, fit_table, rising, shares
from wdp_edge.cost.probes import plan_probes, spaced
from wdp_edge.recipe import TableRecipe
from wdp_edge.structure import BlockWidths, Structure

DENSE = Structure(384, (BlockWidths(6, 64, 1536),) * 12)
OPTIONS = TableRecipe()


def latency(structure: Structure, context: float = 1.0) -> float:
    """A made-up device: overhead per sub-layer, a kink in the heads, a saturating MLP, and a fixed part."""
    attention = [0.02 + 0.011 * b.heads + 0.004 * max(0, b.heads - 4) for b in structure.blocks]
    mlp = [0.02 + 0.1 * (b.hidden / 1536) ** 0.9 for b in structure.blocks]
    return 0.08 + (sum(attention) + sum(mlp)) * context


def observations(context: float, noise: float = 0.0) -> list[Observation]:
    probes, rng = plan_probes(DENSE, OPTIONS, 16), np.random.default_rng(0)
    seen = [Observation(s, latency(s), True) for s in (DENSE, *probes.whole)]
    seen += [Observation(s, latency(s, 1 / context), False) for s in probes.chains]
    return [Observation(o.structure, o.ms * (1 + noise * rng.standard_normal()), o.whole) for o in seen]


def predict(structure: Structure, seen: list[Observation]) -> float:
    probes = plan_probes(DENSE, OPTIONS, 16)
    fit = fit_table(seen, probes.heads, probes.hidden)
    blocks = structure.blocks
    attention = sum(float(shares(probes.heads, b.heads) @ fit.attention) for b in blocks)
    return fit.fixed + attention + sum(float(shares(probes.hidden, b.hidden) @ fit.mlp) for b in blocks)


some_structures = st.lists(
    st.tuples(st.integers(1, 6), st.integers(12, 96).map(lambda n: 16 * n)), min_size=8, max_size=12
).map(lambda widths: DENSE.with_widths([h for h, _ in widths], [n for _, n in widths]))


@settings(max_examples=25, deadline=None)
@given(some_structures, st.sampled_from([0.9, 1.0, 1.15]))
def test_exact_timings_predict_any_structure(structure: Structure, context: float) -> None:
    assert predict(structure, observations(context)) == pytest.approx(latency(structure), rel=0.02)


@settings(max_examples=25, deadline=None)
@given(some_structures)
def test_one_percent_noise_stays_within_five(structure: Structure) -> None:
    assert predict(structure, observations(1.1, noise=0.01)) == pytest.approx(latency(structure), rel=0.05)


def test_nothing_is_negative_and_wider_never_cheaper() -> None:
    probes = plan_probes(DENSE, OPTIONS, 16)
    fit = fit_table(observations(1.1, noise=0.05), probes.heads, probes.hidden)
    assert fit.fixed >= 0 and (fit.attention >= 0).all() and (fit.mlp >= 0).all()
    assert (np.diff(fit.attention) >= 0).all() and (np.diff(fit.mlp) >= 0).all()


def test_probes_cover_the_widths() -> None:
    probes = plan_probes(DENSE, OPTIONS, 16)
    assert probes.heads == (1, 2, 3, 4, 5, 6)
    assert probes.hidden[0] == 192 and probes.hidden[-1] == 1536 and len(probes.hidden) == OPTIONS.points
    assert {b.heads for s in probes.chains for b in s.blocks} == set(probes.heads)
    assert {b.hidden for s in probes.chains for b in s.blocks} == set(probes.hidden)
    assert {s.depth for s in probes.chains} == {1, OPTIONS.chain}
    assert [s.depth for s in probes.whole] == [12]


def test_probes_of_large_and_of_tiny_models() -> None:
    large = plan_probes(Structure(1280, (BlockWidths(20, 64, 5120),) * 2), OPTIONS, 16)
    assert (large.heads[0], large.heads[-1], len(large.heads)) == (1, 20, 8)
    tiny = plan_probes(Structure(8, (BlockWidths(1, 8, 8),)), OPTIONS, 16)
    assert tiny.heads == (1,) and tiny.hidden == (8,)
    assert all(s.depth == 1 for s in (*tiny.chains, *tiny.whole))


def test_probes_stay_within_a_model_that_was_cut_before() -> None:
    uneven = Structure(32, (BlockWidths(2, 8, 64), BlockWidths(4, 8, 128), BlockWidths(1, 8, 16)))
    probes = plan_probes(uneven, OPTIONS, 16)
    for structure in (*probes.chains, *probes.whole):
        for block, most in zip(structure.blocks, uneven.blocks, strict=False):
            assert block.heads <= most.heads and block.hidden <= most.hidden


@given(st.integers(1, 64), st.integers(1, 4096), st.integers(1, 12), st.sampled_from([1, 8, 16, 32]))
def test_grids_rise_and_end_at_the_full_width(low: int, extra: int, count: int, multiple: int) -> None:
    high = low + extra
    grid = spaced(low, high, count, multiple)
    assert list(grid) == sorted(set(grid)) and grid[-1] == high and grid[0] >= 1
    assert len(grid) <= max(count, 1) + 1
    assert all(w % multiple == 0 for w in grid[:-1])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=9))
def test_rising_never_falls_and_keeps_the_mean(ms: list[float]) -> None:
    result = rising(np.array(ms))
    assert (np.diff(result) >= 0).all()
    assert result.mean() == pytest.approx(np.mean(ms), abs=1e-9)
