"""wdp_edge/cost/fit.py and probes.py: a table is recovered from what models of known cost would take."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.cost.fit import Fit, Grid, Observation, fit_table, read_context, rising
from wdp_edge.cost.probes import Probes, plan_probes, spaced
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.device import Kind
from wdp_edge.recipe import TableRecipe
from wdp_edge.structure import BlockWidths, Structure

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
    return LatencyTable(attention, mlp, fit.fixed, 1.0, Kind.MEASURED, key, fit.context, fit.head)


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


def test_probes_cover_the_widths() -> None:
    probes = plan_probes(DENSE, OPTIONS, 16, narrow=True)
    assert probes.heads == (0.25, 1, 2, 3, 4, 5, 6)
    assert probes.hidden[:2] == (16, 192) and probes.hidden[-1] == 1536 and len(probes.hidden) == OPTIONS.points + 1
    assert {b.heads * b.head_dim / 64 for s in probes.chains for b in s.blocks} >= {0, *probes.heads}
    assert {b.hidden for s in probes.chains for b in s.blocks} == {0, *probes.hidden}
    assert {s.depth for s in probes.chains} == {1, OPTIONS.chain}
    assert [s.depth for s in probes.sizes] == [5, 8, 12, 12, 12, 12]
    assert all(s.blocks == DENSE.blocks[: s.depth] for s in probes.sizes[:2])
    uneven = probes.sizes[2:]
    assert all(len(set(s.blocks)) > 3 for s in uneven), "every block has widths of its own"
    shares = [sum(b.hidden for b in s.blocks) / (12 * 1536) for s in uneven]
    assert shares == sorted(shares) and shares[0] < 0.4 and shares[-1] > 0.7


def test_probes_of_large_and_of_tiny_models() -> None:
    large = plan_probes(Structure(1280, (BlockWidths(20, 64, 5120),) * 2), OPTIONS, 16)
    assert (large.heads[0], large.heads[-1], len(large.heads)) == (1, 20, 8)
    tiny = plan_probes(Structure(8, (BlockWidths(1, 8, 8),)), OPTIONS, 16)
    assert tiny.heads == (1,) and tiny.hidden == (8,)
    assert all(s.depth == 1 for s in tiny.chains) and not tiny.sizes, "a model of one width cannot be cut"


def test_probes_stay_within_a_model_that_was_cut_before() -> None:
    uneven = Structure(32, (BlockWidths(2, 8, 64), BlockWidths(4, 8, 128), BlockWidths(1, 8, 16)))
    probes = plan_probes(uneven, OPTIONS, 16)
    for structure in (*probes.chains, *probes.sizes):
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


@given(st.lists(st.floats(0.05, 20), min_size=len(DENSE.blocks), max_size=20), st.integers(0, 4))
def test_the_context_rises(times: list[float], chains: int) -> None:
    """Whatever was measured, also what makes no sense."""
    sizes = [DENSE.with_widths([6] * (1 + i % 12), [1536] * (1 + i % 12)) for i in range(len(times))]
    seen = [Observation(s, ms, i >= chains) for i, (s, ms) in enumerate(zip(sizes, times, strict=True))]
    theta = np.array([0.1, 0.01, 0.2, 0.1])
    line = read_context(theta, seen, Grid([6], [1536], 64))
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(line))
    assert line == () or line[0][0] > 0
