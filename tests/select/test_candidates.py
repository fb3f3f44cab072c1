from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.models.surgery import Kept
from wdp_edge.protocols.device import Kind
from wdp_edge.runs.stages import Learned
from wdp_edge.select.candidates import Allowed, smallest, solve, solve_shares, solve_uniform, width_options
from wdp_edge.select.rankings import exact_ranking, learned_ranking, narrow_ranking, saliency_ranking, tilted_ranking
from wdp_edge.shrink.axes import NarrowHeads
from wdp_edge.shrink.saliency import Importance, Saliency

DEPTH, HEADS, HIDDEN = 4, 6, 128
DENSE = Structure(96, (BlockWidths(HEADS, 16, HIDDEN),) * DEPTH)
KEY = TableKey("executorch", "fp32", "test", 1, 96, 16, 17, {})
TABLE = LatencyTable(
    attention=((1.0, 0.2), (6.0, 1.0)),
    mlp=((16.0, 0.2), (128.0, 1.2)),
    fixed_ms=0.5,
    dense_ms=9.3,
    kind=Kind.MEASURED,
    key=KEY,
    context=(),
)
OUTGROWS_CACHES = replace(TABLE, context=((3.0, 3.0), (5.0, 7.0), (9.0, 15.0)))


def made_up(weight: float = 1.0) -> Saliency:
    """Importance curves that rise like squares; later blocks matter more."""

    def curve(units: int, scale: float) -> Importance:
        return Importance(tuple(range(units)), tuple(scale * (k / units) ** 2 for k in range(units + 1)))

    return Saliency(
        tuple(curve(HEADS, weight * (i + 1)) for i in range(DEPTH)),
        tuple(curve(HIDDEN, i + 1) for i in range(DEPTH)),
    )


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.6, 12.0),
    st.integers(2, DEPTH),
    st.builds(Allowed, st.sampled_from([8, 16]), st.booleans()),
    st.sampled_from([TABLE, OUTGROWS_CACHES]),
)
def test_solutions_fit_and_are_aligned(limit: float, depth: int, allowed: Allowed, table: LatencyTable) -> None:
    for solver in (solve, solve_uniform):
        kept = solver(saliency_ranking(made_up()), DENSE, depth, table, limit, allowed)
        if kept is None:
            least = smallest(DENSE, depth, replace(allowed, drop=allowed.drop and solver is solve))
            assert table.predict(least) > limit - 0.2
            continue
        structure = kept.structure(DENSE)
        assert structure.depth == depth
        assert table.predict(structure) <= limit + 1e-6
        assert all(b.hidden % allowed.multiple == 0 for b in structure.blocks)
        assert (allowed.drop and solver is solve) or all(b.heads and b.hidden for b in structure.blocks)


def test_sublayers_go_where_they_are_worth_less_than_their_time() -> None:
    """Of a block that matters little, even the narrowest attention costs 0.2 ms."""
    curve = made_up()
    idle = replace(curve, heads=(Importance(tuple(range(HEADS)), (0.0,) * (HEADS + 1)), *curve.heads[1:]))
    kept = solve(saliency_ranking(idle), DENSE, DEPTH, TABLE, 5.0, Allowed(8, drop=True))
    whole = solve(saliency_ranking(idle), DENSE, DEPTH, TABLE, 5.0, Allowed(8))
    assert kept is not None and whole is not None
    assert kept.heads[0] == () and len(whole.heads[0]) == 1
    assert sum(map(len, kept.hidden)) > sum(map(len, whole.hidden))
    small = kept.structure(DENSE)
    again = solve(saliency_ranking(idle), small, DEPTH, TABLE, 4.5, Allowed(8))
    assert again is not None and again.heads[0] == (), "what is gone does not come back"


@pytest.mark.parametrize("limit", [4.0, 6.0, 10.0])
def test_a_budget_is_used_up_where_models_outgrow_the_caches(limit: float) -> None:
    kept = solve(saliency_ranking(made_up()), DENSE, DEPTH, OUTGROWS_CACHES, limit, Allowed(8))
    assert kept is not None
    assert 0.95 * limit <= OUTGROWS_CACHES.predict(kept.structure(DENSE)) <= limit + 1e-6


def test_important_blocks_keep_more() -> None:
    kept = solve(saliency_ranking(made_up()), DENSE, DEPTH, TABLE, 5.0, Allowed(8))
    assert kept is not None
    hidden = [len(n) for n in kept.hidden]
    assert hidden == sorted(hidden) and hidden[0] < hidden[-1]


@pytest.mark.parametrize("tilt", [0.7, 1.5])
def test_a_tilt_keeps_more_of_later_blocks(tilt: float) -> None:
    plain = saliency_ranking(made_up())
    tilted = tilted_ranking(plain, tilt)
    a, b = (solve(r, DENSE, DEPTH, TABLE, 7.0, Allowed(8)) for r in (plain, tilted))
    assert a is not None and b is not None
    early, late = ([sum(len(n) for n in k.hidden[part]) for k in (a, b)] for part in (slice(0, 2), slice(2, 4)))
    assert early[1] < early[0] and late[1] > late[0]
    assert tilted.hidden[-1].cost[-1] / tilted.hidden[0].cost[-1] == pytest.approx(DEPTH * math.exp(tilt))
    assert [r.order for r in tilted.hidden] == [r.order for r in plain.hidden], "only what widths are worth changes"


@settings(max_examples=30, deadline=None)
@given(st.floats(0.6, 12.0), st.integers(2, DEPTH), st.builds(Allowed, st.just(8), st.booleans()))
def test_narrow_heads_fit_and_are_never_worse(limit: float, depth: int, allowed: Allowed) -> None:
    table, ranking = replace(TABLE, head_ms=0.02), saliency_ranking(made_up())
    narrow = [[NarrowHeads(8, 0.01 * (i + 1), ranking.heads[i])] for i in range(DEPTH)]
    found = solve(narrow_ranking(made_up(), narrow), DENSE, depth, table, limit, allowed)
    wide = solve(ranking, DENSE, depth, table, limit, allowed)
    if found is None:
        assert wide is None
        return
    structure = found.structure(DENSE)
    assert table.predict(structure) <= limit + 1e-6
    assert all(b.head_dim in (8, 16) if b.heads else b.head_dim == 0 for b in structure.blocks)

    def loss(kept: Kept) -> float:
        blocks = enumerate(kept.structure(DENSE).blocks)
        heads = [(narrow[i][0] if b.head_dim == 8 else ranking.heads[i]).lost(b.heads) for i, b in blocks]
        return sum(heads) + sum(r.lost(len(n)) for r, n in zip(ranking.hidden, kept.hidden, strict=False))

    assert wide is None or loss(found) <= loss(wide) + 1e-3


def test_a_tilt_scales_narrow_heads_too() -> None:
    plain = saliency_ranking(made_up())
    narrow = [[NarrowHeads(8, 0.5, plain.heads[i])] for i in range(DEPTH)]
    tilted = tilted_ranking(narrow_ranking(made_up(), narrow), 0.7)
    for i in range(DEPTH):
        share = tilted.heads[i].lost(2) / plain.heads[i].lost(2)
        assert tilted.narrow[i][0].lost(2) == pytest.approx(share * narrow[i][0].lost(2))


def learned_at(heads: list[int], hidden: list[int], channels: list[int] | None = None) -> Learned:
    """A search that ended at these widths; of hidden units it thinks the contrary of the curves."""
    return Learned(
        heads_scores=[[float(i) for i in range(HEADS)]] * DEPTH,
        hidden_scores=[[float(-i) for i in range(HIDDEN)]] * DEPTH,
        keep_heads=[h / HEADS for h in heads],
        keep_hidden=[n / HIDDEN for n in hidden],
        seconds=0.0,
        images=0,
        curve=[],
        keep_channels=[c / 16 for c in channels or []],
    )


WIDTHS = st.lists(st.tuples(st.integers(1, HEADS), st.integers(1, HIDDEN // 8)), min_size=DEPTH, max_size=DEPTH)


@settings(max_examples=40, deadline=None)
@given(widths=WIDTHS)
def test_widths_exactly_as_learned_come_back_under_their_own_budget(widths: list[tuple[int, int]]) -> None:
    heads, hidden = [h for h, _ in widths], [8 * n for _, n in widths]
    ranking = exact_ranking(made_up(), learned_at(heads, hidden), TABLE)
    limit = TABLE.predict(DENSE.with_widths(heads, hidden))
    kept = solve_shares(ranking, DENSE, DEPTH, TABLE, limit + 1e-6, Allowed(8))
    assert kept is not None
    assert [len(h) for h in kept.heads] == heads and [len(n) for n in kept.hidden] == hidden
    assert kept.hidden[0] == tuple(range(hidden[0])), "units with the highest learned scores stay"


@settings(max_examples=40, deadline=None)
@given(widths=WIDTHS, limit=st.floats(0.6, 12.0), depth=st.integers(2, DEPTH))
def test_learned_widths_move_together_to_another_budget(
    widths: list[tuple[int, int]], limit: float, depth: int
) -> None:
    ranking = exact_ranking(made_up(), learned_at([h for h, _ in widths], [8 * n for _, n in widths]), TABLE)
    found = solve_shares(ranking, DENSE, depth, TABLE, limit, Allowed(8))
    if found is None:
        assert TABLE.predict(smallest(DENSE, depth, Allowed(8))) > limit
        return
    structure = found.structure(DENSE)
    assert TABLE.predict(structure) <= limit
    for first, second in zip(range(depth), range(1, depth), strict=False):
        shares = [w[0] for w in widths]
        if shares[first] <= shares[second]:
            assert structure.blocks[first].heads <= structure.blocks[second].heads, "their order stays"
    other = solve_shares(ranking, DENSE, depth, TABLE, 1.05 * limit, Allowed(8), like=structure)
    assert other is not None
    assert [b.heads for b in other.structure(DENSE).blocks] == [b.heads for b in structure.blocks]


def test_a_tilt_moves_the_thresholds_of_learned_widths() -> None:
    ranking = tilted_ranking(exact_ranking(made_up(), learned_at([3] * DEPTH, [64] * DEPTH), TABLE), 0.7)
    assert ranking.shares is not None and ranking.name == "exactly as learned, tilt 0.7"
    heads = ranking.shares.heads
    assert heads == ranking.shares.hidden and list(heads) == sorted(heads)
    odds = [share / (1 - share) for share in heads]
    assert odds[-1] / odds[0] == pytest.approx(math.exp(0.7))


def test_learned_widths_come_back_under_their_own_budget() -> None:
    heads, hidden = [2, 5, 3, 4], [96, 32, 64, 112]
    learned = learned_at(heads, hidden)
    limit = TABLE.predict(DENSE.with_widths(heads, hidden))
    kept = solve(learned_ranking(made_up(), learned, TABLE), DENSE, DEPTH, TABLE, limit + 1e-6, Allowed(8))
    assert kept is not None
    assert [len(h) for h in kept.heads] == pytest.approx(heads, abs=1)
    assert [len(n) for n in kept.hidden] == pytest.approx(hidden, abs=24)
    assert kept.hidden[0] == tuple(range(len(kept.hidden[0]))), "units with the highest learned scores stay"


NARROW = replace(TABLE, head_ms=0.02)


def half_as_wide(cost: float) -> list[list[NarrowHeads]]:
    """Of every block, heads of 8 channels instead of 16. cost: of the first block's; later ones lose more."""
    return [[NarrowHeads(8, cost * (i + 1), r)] for i, r in enumerate(made_up().heads)]


@settings(max_examples=40, deadline=None)
@given(widths=WIDTHS, dims=st.lists(st.sampled_from([8, 16]), min_size=DEPTH, max_size=DEPTH), depth=st.integers(2, 4))
def test_channels_exactly_as_learned_come_back(widths: list[tuple[int, int]], dims: list[int], depth: int) -> None:
    heads, hidden = [h for h, _ in widths], [8 * n for _, n in widths]
    ranking = exact_ranking(made_up(), learned_at(heads, hidden, dims), NARROW, half_as_wide(0.1))
    limit = NARROW.predict(DENSE.with_widths(heads[:depth], hidden[:depth], dims[:depth]))
    kept = solve_shares(ranking, DENSE, depth, NARROW, limit + 1e-6, Allowed(8))
    assert kept is not None
    structure = kept.structure(DENSE)
    assert structure == DENSE.with_widths(heads[:depth], hidden[:depth], dims[:depth])
    again = solve_shares(ranking, DENSE, depth, NARROW, 0.97 * limit, Allowed(8), like=structure)
    assert again is None or [b.head_dim for b in again.structure(DENSE).blocks] == dims[:depth]


def test_a_layer_whose_learned_widths_are_more_is_worth_more() -> None:
    dims = [8, 16, 8, 16]
    learned = learned_at([4] * DEPTH, [64] * DEPTH, dims)
    flat = Saliency(tuple(replace(made_up().heads[0]) for _ in range(DEPTH)), made_up().hidden)
    narrow = [half_as_wide(0.1)[0]] * DEPTH
    ranking = learned_ranking(flat, learned, NARROW, narrow)
    worth = [ranking.heads[i].lost(1) for i in range(DEPTH)]
    assert worth[0] == worth[2] < worth[1] == worth[3]
    assert ranking.narrow[1][0].lost(6) / narrow[1][0].lost(6) == pytest.approx(worth[1] / flat.heads[1].lost(1))
    limit = NARROW.predict(DENSE.with_widths([4] * DEPTH, [64] * DEPTH, dims))
    kept = solve(ranking, DENSE, DEPTH, NARROW, limit + 1e-6, Allowed(8))
    assert kept is not None
    channels = [b.heads * b.head_dim for b in kept.structure(DENSE).blocks]
    assert channels[0] < channels[1] and channels[2] < channels[3]


@given(st.integers(8, 4096), st.sampled_from([1, 8, 16, 32]))
def test_width_options(units: int, multiple: int) -> None:
    widths = width_options(units, multiple)
    assert widths == sorted(set(widths)) and widths[-1] == units
    assert len(widths) <= 98 and all(w % multiple == 0 or w == units for w in widths)
