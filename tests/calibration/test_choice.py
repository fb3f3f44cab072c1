"""The choice of a precision: properties that hold whatever the measurements say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.calibration.choice import Choice, MixedPrecision, PrecisionSeries, Tried, best, candidates, choose
from wdp_edge.protocols.precision import Precision

LAYERS = tuple(f"blocks.{i}.fc1" for i in range(10))
SHARES = dict.fromkeys(LAYERS, 0.1)
DYNAMIC = PrecisionSeries(Precision.INT8_DYNAMIC, 0.6, LAYERS)
STATIC = PrecisionSeries(Precision.INT8_STATIC, 0.5, LAYERS[::-1])
WEIGHT = PrecisionSeries(Precision.INT8_WEIGHT, 0.5, LAYERS[::-1])
OFFERED = candidates([DYNAMIC, STATIC, WEIGHT, PrecisionSeries(Precision.FP16, 0.9)], SHARES)
FIGURES = st.lists(st.tuples(st.floats(-1, 20), st.floats(0.1, 100)), min_size=len(OFFERED), max_size=len(OFFERED))


class Bench:
    """Gives out prepared figures and remembers who asked."""

    def __init__(self, drops: dict[MixedPrecision, float], latency: dict[MixedPrecision, float] | None = None) -> None:
        self.drops, self.latency = drops, latency or {c: 10 * c.expected for c in drops}
        self.asked: list[MixedPrecision] = []

    def __call__(self, candidate: MixedPrecision) -> Tried:
        self.asked.append(candidate)
        drop = self.drops[candidate]
        return Tried(candidate, 0.9 - drop / 100, drop, self.latency[candidate], 1000)


def with_drops(**drops: float) -> dict[MixedPrecision, float]:
    """drops: by precision and number of kept layers, as in `static2=0.4`; all others lose 9 points, fp32 none."""
    found = {}
    for c in OFFERED:
        name = f"{c.precision.removeprefix('int8-')}{len(c.kept)}"
        found[c] = drops.get(name, 0.0 if c.precision == Precision.FP32 else 9.0)
    return found


def chosen(choice: Choice) -> tuple[Precision, int]:
    c = choice.best.candidate
    return c.precision, len(c.kept)


@given(FIGURES, st.floats(0, 5))
def test_holds_for_any_figures(figures: list[tuple[float, float]], allowed: float) -> None:
    drops = {c: drop for c, (drop, _) in zip(OFFERED, figures, strict=True)}
    bench = Bench(drops, {c: ms for c, (_, ms) in zip(OFFERED, figures, strict=True)})
    choice = choose(OFFERED, bench, allowed)
    assert len(bench.asked) == len(set(bench.asked)) == len(choice.tried), "nothing is measured twice"
    assert set(bench.asked) | set(choice.skipped) == set(OFFERED)
    assert [t.allowed for t in choice.tried] == [t.drop <= allowed for t in choice.tried]
    if min(drops.values()) <= allowed:
        assert choice.best.allowed and choice.best == best(choice.tried, allowed)
    else:
        assert choice.best.candidate.precision == Precision.FP32 and not choice.skipped


@given(st.lists(st.floats(-1, 20), min_size=len(OFFERED), max_size=len(OFFERED)), st.floats(0, 5))
def test_true_expectations_and_no_hopeless_family_give_the_optimum(drops: list[float], allowed: float) -> None:
    losses: dict[MixedPrecision, float] = dict(zip(OFFERED, drops, strict=True))
    for c in OFFERED:  # every further layer in float helps
        losses[c] -= 30 * len(c.kept)
    choice = choose(OFFERED, Bench(losses), allowed)
    inside = [10 * c.expected for c in OFFERED if losses[c] <= allowed]
    assert not inside or choice.best.latency_ms == min(inside)


def test_the_first_inside_ends_the_search_but_for_those_within_the_margin() -> None:
    bench = Bench(with_drops(static0=0.2))
    choice = choose(OFFERED, bench, 0.5)
    assert chosen(choice) == (Precision.INT8_STATIC, 0)
    assert [(c.precision, len(c.kept)) for c in bench.asked] == [(Precision.INT8_STATIC, 0), (Precision.INT8_WEIGHT, 0)]


def test_one_expected_to_be_slower_is_tried_within_the_margin_and_may_win() -> None:
    drops = with_drops(static0=0.2, dynamic0=0.1)
    latency = {c: 3.0 if c.precision == Precision.INT8_DYNAMIC else 10 * c.expected for c in drops}
    assert chosen(choose(OFFERED, Bench(drops, latency), 0.5, margin=0.2)) == (Precision.INT8_DYNAMIC, 0)
    assert chosen(choose(OFFERED, Bench(drops, latency), 0.5, margin=0.1)) == (Precision.INT8_STATIC, 0)


def test_kept_layers_are_added_until_the_drop_is_inside() -> None:
    drops = with_drops(static0=2.0, static2=1.0, static4=0.4, static8=0.1)
    bench = Bench(drops)
    assert chosen(choose(OFFERED, bench, 0.5)) == (Precision.INT8_STATIC, 4)
    assert all(len(c.kept) < 8 for c in bench.asked)


def test_a_family_that_does_not_improve_is_left_alone() -> None:
    bench = Bench(with_drops(fp160=0.0))
    assert chosen(choose(OFFERED, bench, 0.5)) == (Precision.FP16, 0)
    assert max(len(c.kept) for c in bench.asked) == 2


def test_but_is_tried_before_one_outside_is_taken() -> None:
    choice = choose(OFFERED, Bench(with_drops(dynamic8=0.3, fp320=0.6, fp160=3.0)), 0.5)
    assert chosen(choice) == (Precision.INT8_DYNAMIC, 8)


def test_nothing_inside_falls_back_to_fp32() -> None:
    choice = choose(OFFERED, Bench(with_drops(fp320=0.6)), 0.5)
    assert chosen(choice) == (Precision.FP32, 0) and not choice.best.allowed


def test_the_fastest_inside_is_best_and_none_is_none() -> None:
    a, b, c = (
        Tried(MixedPrecision(Precision.FP16, 1.0), 0.9, drop, ms, 1) for drop, ms in ((0.1, 5), (0.5, 4), (0.6, 1))
    )
    assert best([a, b, c], 0.5) is b and best([c], 0.5) is None


def test_candidates_grow_by_the_most_sensitive_layers_and_cost_their_share() -> None:
    offered = candidates([DYNAMIC, PrecisionSeries(Precision.FP16, 0.9)], SHARES)
    kept = [(c.precision, c.kept, round(c.expected, 6)) for c in offered]
    assert kept == [
        (Precision.INT8_DYNAMIC, (), 0.6),
        (Precision.INT8_DYNAMIC, LAYERS[:2], 0.68),
        (Precision.INT8_DYNAMIC, LAYERS[:4], 0.76),
        (Precision.FP16, (), 0.9),
        (Precision.INT8_DYNAMIC, LAYERS[:8], 0.92),
        (Precision.FP32, (), 1.0),
    ]


def test_small_models_do_not_offer_the_same_twice() -> None:
    offered = candidates([replace(DYNAMIC, ranking=LAYERS[:3])], SHARES)
    assert [len(c.kept) for c in offered] == [0, 2, 3, 0]


def test_fp32_must_be_offered() -> None:
    with pytest.raises(ValueError, match="fp32"):
        choose([MixedPrecision(Precision.FP16, 0.9)], Bench({}), 0.5)
