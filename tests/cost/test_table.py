"""wdp_edge/cost/table.py: interpolation, prediction, correction and the JSON form."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wdp_edge.cost.table import LatencyTable, Points, TableKey, along, interpolate
from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import from_plain
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.device import Kind

KEY = TableKey("executorch", "fp32", "local|cpu", 1, 32, 8, 17, {"torch": "2.14"})
milliseconds = st.floats(0.001, 100)


@st.composite
def grids(draw: st.DrawFn) -> Points:
    """Rising widths with rising times, as `fit_table` makes them."""
    widths = sorted(draw(st.sets(st.integers(1, 4096), min_size=1, max_size=9)))
    times = sorted(draw(st.lists(milliseconds, min_size=len(widths), max_size=len(widths))))
    return tuple((float(w), t) for w, t in zip(widths, times, strict=True))


@st.composite
def contexts(draw: st.DrawFn) -> Points:
    """None, or a rising line through the origin."""
    steps = draw(st.lists(st.tuples(st.floats(0.01, 50), st.floats(0.01, 50)), max_size=5))
    return tuple(zip(accumulate(x for x, _ in steps), accumulate(y for _, y in steps), strict=True))


@st.composite
def tables(draw: st.DrawFn) -> LatencyTable:
    parts = draw(grids()), draw(grids()), draw(milliseconds), draw(milliseconds)
    last = draw(st.none() | st.tuples(st.floats(0, 1), st.floats(0, 0.1)))
    return LatencyTable(*parts, Kind.MEASURED, KEY, draw(contexts()), last=last)


def parts_ms(table: LatencyTable, structure: Structure) -> float:
    """The sum of all sub-layers."""
    numbered = [(b, i == structure.depth - 1) for i, b in enumerate(structure.blocks)]
    return sum(table.attention_ms(b.heads, last=last) + table.mlp_ms(b.hidden, last=last) for b, last in numbered)


structures = st.builds(
    Structure,
    embed_dim=st.just(32),
    blocks=st.lists(
        st.builds(BlockWidths, heads=st.integers(1, 16), head_dim=st.just(8), hidden=st.integers(1, 4096)),
        min_size=1,
        max_size=12,
    ).map(tuple),
)


@given(grids())
def test_grid_points_are_met_exactly(points: Points) -> None:
    assert all(math.isclose(interpolate(points, w), ms, rel_tol=1e-9) for w, ms in points)


@given(grids(), st.lists(st.floats(0.01, 8192), min_size=2, max_size=20))
def test_wider_never_costs_less(points: Points, widths: list[float]) -> None:
    times = [interpolate(points, w) for w in sorted(widths)]
    assert all(a <= b * (1 + 1e-9) + 1e-12 for a, b in pairwise(times))
    assert all(t > 0 for t in times)


@given(tables(), structures)
def test_prediction_adds_up(table: LatencyTable, structure: Structure) -> None:
    summed = table.fixed_ms + parts_ms(table, structure)
    assert math.isclose(table.predict(structure), along(table.context, summed), rel_tol=1e-9)
    shallow = Structure(structure.embed_dim, structure.blocks[-1:])
    assert table.predict(shallow) <= table.predict(structure) * (1 + 1e-9)


@given(contexts(), st.floats(0, 300), st.floats(0, 300))
@example(((8.0, 0.125),), 2.0**-24, 0.0)
def test_context_rises_from_zero_and_can_be_inverted(context: Points, x: float, other: float) -> None:
    assert along(context, 0.0) == 0
    less, more = sorted((x, other))
    assert along(context, less) <= along(context, more) * (1 + 1e-9)
    inverse = tuple((b, a) for a, b in context)
    assert math.isclose(along(inverse, along(context, x)), x, rel_tol=1e-6, abs_tol=1e-9)
    assert all(math.isclose(along(context, a), b, rel_tol=1e-9) for a, b in context)


@given(tables(), structures, milliseconds)
def test_sums_around_a_limit_decide_as_the_whole_table_does(
    table: LatencyTable, structure: Structure, limit: float
) -> None:
    near, latency = table.around(limit), table.predict(structure)
    summed = near.fixed_ms + parts_ms(near, structure)
    assert math.isclose(near.predict(structure), latency, rel_tol=1e-6)
    if not math.isclose(latency, limit, rel_tol=1e-6):
        assert (summed <= limit) == (latency <= limit)
    exact = table.around(latency)
    summed = exact.fixed_ms + parts_ms(exact, structure)
    assert math.isclose(summed, latency, rel_tol=1e-6)


@given(tables())
def test_json_round_trip(table: LatencyTable) -> None:
    assert from_plain(LatencyTable, to_plain(table)) == table


def a_table() -> LatencyTable:
    return LatencyTable(((1.0, 0.1), (4.0, 0.4)), ((16.0, 0.1), (128.0, 0.5)), 0.2, 3.0, Kind.MEASURED, KEY, ())


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 99},
        {"attention": "none"},
        {"mlp": [[1, 2, 3]]},
        {"attention": [[4, 0.1], [1, 0.2]]},
        {"context": [[1.0, 2.0], [2.0, 1.5]]},
        {"kind": "guessed"},
        {"key": {}},
        {"dense_ms": "fast"},
        {"dense_ms": 0.0},
        {"attention": [[1.0, math.nan], [4.0, 0.4]]},
        {"fixed_ms": -0.2},
        {"last": (0.1, -0.1)},
        {"fixed_ms": math.inf},
        {"context": [[1.0, math.inf]]},
        {"key": {**to_plain(KEY), "threads": "1"}},
        {"key": {**to_plain(KEY), "embed_dim": True}},
        {"key": {**to_plain(KEY), "versions": {"torch": 2.14}}},
    ],
)
def test_damaged_tables_are_named(damage: dict[str, object]) -> None:
    with pytest.raises(InputError, match="LatencyTable"):
        from_plain(LatencyTable, {**to_plain(a_table()), **damage})


@pytest.mark.parametrize("gone", ["attention", "mlp", "context", "fixed_ms", "dense_ms", "kind", "key"])
def test_a_table_that_lacks_a_part_is_refused(gone: str) -> None:
    with pytest.raises(InputError, match=rf"LatencyTable\.{gone} is missing"):
        from_plain(LatencyTable, {k: v for k, v in to_plain(a_table()).items() if k != gone})


def test_narrow_heads_cost_their_channels_and_a_share_of_their_own() -> None:
    table = LatencyTable(((1.0, 0.2), (4.0, 0.8)), ((8.0, 0.1),), 0.5, 9.0, Kind.MEASURED, KEY, (), head_ms=0.03)
    assert table.attention_ms(4, 8) == pytest.approx(0.8)
    assert table.attention_ms(4, 4) == pytest.approx(0.4 + 2 * 0.03)
    assert table.attention_ms(0, 0) == 0


def test_what_follows_the_last_attention_costs_its_own() -> None:
    table = replace(a_table(), last=(0.01, 0.0001))
    whole, tail = BlockWidths(4, 8, 128), BlockWidths(0, 0, 128)
    assert table.predict(Structure(32, (whole, whole))) == pytest.approx(0.2 + 0.9 + 0.04 + 0.0128)
    assert table.predict(Structure(32, (whole, whole, tail))) == pytest.approx(0.2 + 0.9 + 0.04 + 2 * 0.0128)
    assert table.predict(Structure(32, (tail, tail))) == pytest.approx(0.2 + 2 * 0.5), "nothing was picked before"
    again = from_plain(LatencyTable, to_plain(table))
    assert again == table
    old = to_plain(table)
    del old["head_ms"]
    assert from_plain(LatencyTable, old).head_ms == 0
