"""wdp_edge/select/bracket.py with tables and knapsacks on real models' structures. Only the clock is FAKE."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from statistics import median

import pytest

from wdp_edge.config.recipe import TableRecipe
from wdp_edge.cost.fit import Grid, Observation, fit_table
from wdp_edge.cost.probes import plan_probes
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.models.surgery import Kept
from wdp_edge.protocols.device import Kind
from wdp_edge.pruning.timing import relative_error
from wdp_edge.select.bracket import (
    MOST_SESSIONS,
    Goal,
    Seen,
    Session,
    Value,
    alike,
    best,
    bracket,
    confirmed,
    doubtful,
    open_choice,
    settled,
    weights,
)
from wdp_edge.select.candidates import Allowed, solve
from wdp_edge.select.rankings import Ranking
from wdp_edge.shrink.axes import NarrowHeads
from wdp_edge.shrink.saliency import Importance

# The demo's model and DINOv2-S.
MODELS = {
    "demo": Structure(192, (BlockWidths(3, 64, 768),) * 12),
    "dinov2": Structure(384, (BlockWidths(6, 64, 1536),) * 12),
}
LOW, AIM, HIGH = 0.95, 0.975, 1.0
NOISE, ROUNDS = 0.03, 24
BUDGETS = (20, 30, 40, 50, 60, 70, 80, 90)


def cost(structure: Structure, narrow: float = 0.0, gone: float = 0.0) -> float:
    """A made-up device in ms. narrow, gone: what a block with narrow heads, or without a sub-layer, takes besides."""
    dim = structure.embed_dim
    total = 0.05 * dim / 192
    for b in structure.blocks:
        if b.heads:
            total += 0.03 + dim * b.heads * b.head_dim / 2.5e5 + 0.004 * b.heads
        if b.hidden:
            total += 0.01 + dim * b.hidden / 4e5
        total += narrow * (0 < b.head_dim < 64) + gone * (not b.heads or not b.hidden)
    return total


@cache
def table_of(name: str) -> LatencyTable:
    """Fitted to what the device takes for the probes, as a measured one is."""
    dense = MODELS[name]
    probes = plan_probes(dense, TableRecipe(), 16, narrow=True)
    seen = [Observation(s, cost(s), True) for s in (dense, *probes.sizes)]
    seen += [Observation(s, cost(s), False) for s in probes.chains]
    fit = fit_table(seen, Grid(probes.heads, probes.hidden, probes.head_dim))
    attention = tuple(zip(map(float, probes.heads), map(float, fit.attention), strict=True))
    mlp = tuple(zip(map(float, probes.hidden), map(float, fit.mlp), strict=True))
    key = TableKey("onnx", "fp32", "fake", 1, dense.embed_dim, 64, 65, {})
    return LatencyTable(attention, mlp, fit.fixed, cost(dense), Kind.MEASURED, key, fit.context, fit.head)


def ranking_of(dense: Structure, rng: random.Random, narrow: bool) -> Ranking:
    def curve(units: int) -> Importance:
        scale, power = rng.uniform(0.5, 2.0), rng.uniform(1.5, 3.0)
        return Importance(tuple(range(units)), tuple(scale * (k / units) ** power for k in range(units + 1)))

    heads = tuple(curve(b.heads) for b in dense.blocks)
    hidden = tuple(curve(b.hidden) for b in dense.blocks)
    channels = [tuple(NarrowHeads(c, 0.6 * (1 - c / 64) ** 2, h) for c in (16, 24, 32, 40, 48, 56)) for h in heads]
    return Ranking("made up", heads, hidden, channels if narrow else ())


@dataclass
class FakeDevice:
    """FAKE: the clock. A session is what the real one makes of `ROUNDS` rounds with noise on both files of each."""

    name: str
    ranking: Ranking
    true_ms: Callable[[Structure], float]
    budget_ms: float
    rng: random.Random
    drop: bool = False
    disturbed: dict[int, float] = field(default_factory=dict)
    timed: list[Structure] = field(default_factory=list)

    def propose(self, limit_ms: float, like: Structure | None) -> Kept | None:
        dense = MODELS[self.name]
        return solve(self.ranking, dense, dense.depth, table_of(self.name), limit_ms, Allowed(32, self.drop), like)

    def structure(self, kept: Kept) -> Structure:
        return kept.structure(MODELS[self.name])

    def predict(self, structure: Structure) -> float:
        return table_of(self.name).predict(structure)

    def share(self, kept: Kept) -> float:
        return self.true_ms(self.structure(kept)) / self.budget_ms

    def time(self, kept: Kept) -> Session:
        self.timed.append(self.structure(kept))
        share = self.share(kept) * self.disturbed.get(len(self.timed), 1.0)
        rounds = [share * self.rng.gauss(1, NOISE) / self.rng.gauss(1, NOISE) for _ in range(ROUNDS)]
        return Session(median(rounds), relative_error(rounds))


def bent(structure: Structure, name: str) -> float:
    """Small models take longer than the table says, large ones less; narrow heads and gaps cost time of their own."""
    share = cost(structure) / cost(MODELS[name])
    return cost(structure, narrow=0.006, gone=0.01) * (1.25 - 0.4 * share)


DEVICES: dict[str, Callable[[Structure, str], float]] = {
    "faster": lambda s, name: 0.8 * cost(s),
    "slower": lambda s, name: 1.3 * cost(s),
    "bent": bent,
}


def device_of(name: str, clock: str, budget: float, seed: int) -> tuple[FakeDevice, Goal, Kept]:
    rng = random.Random(seed)
    dense = MODELS[name]
    ranking, drop = ranking_of(dense, rng, narrow=seed % 2 == 0), seed % 4 < 2
    budget_ms = budget / 100 * cost(dense)
    device = FakeDevice(name, ranking, lambda s: DEVICES[clock](s, name), budget_ms, rng, drop)
    first = device.propose(AIM * budget_ms, None)
    assert first is not None
    return device, Goal(budget_ms, LOW, AIM, 6), first


COMBINATIONS = [(clock, budget) for budget in BUDGETS for clock in DEVICES]


def test_fifty_seeds_of_fifty_end_in_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the true time of what the loop chooses, for every clock and budget in turn.

    One session of 24 rounds with 3 % noise on each file has a standard error of 1.1 %. What is confirmed was inside the
    band by three standard errors before its last session and is so with it: taken for its first value, the nearest to
    the aim of several noisy ones, a file lay outside for one seed in fifty. Where the dense structure itself takes less
    than the band, there is nothing nearer, and it is chosen.
    """
    monkeypatch.setattr("wdp_edge.select.candidates.GAP", 0.02)  # how near to the least loss does not matter here
    for seed in range(50):
        clock, budget = COMBINATIONS[seed % len(COMBINATIONS)]
        device, goal, first = device_of("demo", clock, budget, seed)
        seen = bracket(device, first, goal)
        chosen = best(seen, goal)
        whole = DEVICES[clock](MODELS["demo"], "demo") / goal.budget_ms
        assert len(seen) <= goal.rounds and len({s.structure for s in seen}) == len(seen), "none is exported twice"
        if whole < LOW:
            assert device.share(chosen.kept) == pytest.approx(whole, rel=0.01)
        else:
            assert LOW <= device.share(chosen.kept) <= HIGH, (seed, clock, budget, [s.used for s in seen])


@pytest.mark.parametrize("clock", DEVICES)
def test_a_large_model_ends_in_the_band(clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wdp_edge.select.candidates.GAP", 0.02)
    device, goal, first = device_of("dinov2", clock, 50, seed=3)
    assert LOW <= device.share(best(bracket(device, first, goal), goal).kept) <= HIGH


STEP = 48


@dataclass
class Ladder:
    """FAKE: structures of one block, which step by 48 hidden units; a clock without noise, and sessions as written."""

    most: int = 768
    budget: float = 500.0
    scripted: list[float] = field(default_factory=list)
    timed: list[int] = field(default_factory=list)

    def propose(self, limit_ms: float, like: Structure | None) -> Kept | None:
        width = min(self.most, int(limit_ms) // STEP * STEP)
        return Kept.first(Structure(8, (BlockWidths(1, 8, width),))) if width > 0 else None

    def structure(self, kept: Kept) -> Structure:
        return Structure(8, (BlockWidths(1, 8, len(kept.hidden[0])),))

    def predict(self, structure: Structure) -> float:
        return float(structure.blocks[0].hidden)

    def time(self, kept: Kept) -> Session:
        self.timed.append(len(kept.hidden[0]))
        return Session(self.scripted.pop(0) if self.scripted else self.timed[-1] / self.budget, 0.001)


def ladder_goal(ladder: Ladder, rounds: int = 6) -> Goal:
    return Goal(ladder.budget, LOW, AIM, rounds)


def test_where_no_structure_lies_in_the_band_the_largest_that_fits_is_taken() -> None:
    ladder = Ladder(budget=570.0)  # 528 takes 92.6 %, 576 takes 101.1 %
    first = ladder.propose(480, None)
    goal = ladder_goal(ladder)
    seen = bracket(ladder, first, goal)
    assert best(seen, goal).predicted_ms == 528
    assert {528.0, 576.0} <= {s.predicted_ms for s in seen}, "both neighbours of the band were timed"


def test_a_surprise_is_timed_again_before_it_is_believed() -> None:
    ladder = Ladder(budget=500.0, scripted=[1.2, 0.976, 0.975])
    seen = bracket(ladder, ladder.propose(490, None), ladder_goal(ladder))
    assert ladder.timed == [480, 480, 480, 480] and len(seen) == 1
    assert 0.95 < best(seen, ladder_goal(ladder)).used < 0.98, "what contradicts three others counts for nothing"


def test_a_file_is_confirmed_by_a_session_after_it_looked_right() -> None:
    """The first value puts it into the band, the truth does not: three errors above the floor it is not known to be."""
    ladder = Ladder(budget=510.0)  # 480 takes 94.1 %
    goal = ladder_goal(ladder)
    lucky = Seen((Session(0.975, 0.004),), *by_width(ladder, 480))
    assert settled(lucky, goal) and not confirmed(lucky, goal)
    ladder.scripted = [0.975]
    seen = bracket(ladder, ladder.propose(480, None), goal)
    assert ladder.timed[:2] == [480, 480] and len(seen) > 1, "the loop went on"


def test_after_all_sessions_it_is_enough_to_be_inside_in_all_likelihood() -> None:
    """Sessions beside other work scatter by more than their rounds say: three standard errors are not to be had."""
    goal = ladder_goal(Ladder())
    drifting = [Session(used, 0.006) for used in (0.984, 0.971, 1.009, 0.970, 0.985, 0.984)]
    assert not settled(Value(tuple(drifting)), goal) and confirmed(Value(tuple(drifting)), goal)
    assert not confirmed(Value(tuple(drifting[:5])), goal)
    edge = tuple(Session(s.used + 0.01, s.spread) for s in drifting)
    assert not confirmed(Value(edge), goal)


def test_a_confirmed_file_goes_before_one_that_seems_nearer_to_the_aim() -> None:
    ladder = Ladder()
    goal = ladder_goal(ladder)
    sure = Seen((Session(0.966, 0.004),) * 3, *by_width(ladder, 480))
    lucky = Seen((Session(0.975, 0.02),), *by_width(ladder, 528))
    assert confirmed(sure, goal) and best([lucky, sure], goal) is sure


def test_of_two_that_are_not_confirmed_the_likelier_one_is_timed_again() -> None:
    ladder = Ladder()
    goal = ladder_goal(ladder)
    near = Seen((Session(0.962, 0.006),) * 2, *by_width(ladder, 480))
    vague = Seen((Session(0.975, 0.03),), *by_width(ladder, 528))
    assert best([vague, near], goal) is near and open_choice([vague, near], goal) is near


def by_width(ladder: Ladder, width: int) -> tuple[Kept, Structure, float]:
    kept = ladder.propose(width, None)
    assert kept is not None
    return kept, ladder.structure(kept), float(width)


def test_sessions_count_by_their_precision() -> None:
    value = Value((Session(0.96, 0.002), Session(0.98, 0.02)))
    assert 0.96 < value.used < 0.97
    assert sum(weights(value.sessions)) == pytest.approx(1)
    assert weights((Session(0.97, 0.0),)) == [1]
    assert weights((Session(1.2, 0.001), Session(0.976, 0.001), Session(0.975, 0.001)))[0] == 0


def test_the_probability_of_the_band() -> None:
    assert Value((Session(0.975, 0.0),)).within(LOW, HIGH) == 1
    assert Value((Session(0.949, 0.0),)).within(LOW, HIGH) == 0
    assert Value((Session(1.0, 0.001),)).within(LOW, HIGH) == pytest.approx(0.5)


def test_what_was_timed_before_is_not_timed_again() -> None:
    ladder, goal = Ladder(budget=500.0), ladder_goal(Ladder(budget=500.0))
    known = [point(ladder, 528, 1.056)]
    seen = bracket(ladder, None, goal, known)
    assert [s.predicted_ms for s in seen] == [480] and 528 not in ladder.timed


def test_rounds_bound_the_loop() -> None:
    ladder = Ladder(budget=570.0)
    assert len(bracket(ladder, ladder.propose(100, None), ladder_goal(ladder, rounds=2))) == 2


def point(ladder: Ladder, width: int, *used: float) -> Seen:
    kept = ladder.propose(width, None)
    assert kept is not None
    return Seen(tuple(Session(u, 0.001) for u in used), kept, ladder.structure(kept), float(width))


def test_of_those_that_fit_the_nearest_to_the_aim_is_taken_or_else_the_smallest() -> None:
    ladder = Ladder()
    goal = ladder_goal(ladder)
    over, near, far = point(ladder, 528, 1.01), point(ladder, 480, 0.96), point(ladder, 432, 0.88)
    assert best([over, far, near], goal) is near
    assert best([over, point(ladder, 576, 1.1)], goal) is over


def test_the_spread_counts_sessions_that_disagree() -> None:
    agree, differ = Value((Session(0.98, 0.004),) * 4), Value((Session(0.96, 0.004), Session(1.0, 0.004)))
    assert agree.spread == pytest.approx(0.002)
    assert differ.spread == pytest.approx(0.02 / 0.98, rel=0.02) and not settled(differ, ladder_goal(Ladder()))


def test_sessions_end() -> None:
    goal = ladder_goal(Ladder())
    assert doubtful(Value((Session(0.999, 0.01),)), 0.98, goal)
    assert not doubtful(Value((Session(0.999, 0.01),) * MOST_SESSIONS), 0.98, goal)
    assert not doubtful(Value((Session(0.975, 0.004),)), 0.98, goal), "surely inside"


def test_the_measured_correction_is_weighed_by_its_spread() -> None:
    ladder = Ladder()
    goal, sure = ladder_goal(ladder), point(ladder, 480, 1.1)
    vague = Seen((Session(1.1, 0.07),), sure.kept, sure.structure, sure.predicted_ms)
    assert 0 < vague.correction(goal) < 0.6 * sure.correction(goal)


def test_alike_structures_differ_in_hidden_units_alone() -> None:
    def one(heads: int, hidden: int) -> Structure:
        return Structure(8, (BlockWidths(heads, 8, hidden),) * 2)

    assert alike(one(2, 16), one(2, 32))
    assert not alike(one(2, 16), one(1, 16)) and not alike(one(2, 16), one(2, 0))
