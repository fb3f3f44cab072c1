"""The loop that brackets a budget: time a structure, look for the next one between what fits and what does not. Pure.

The table's prediction of a structure (ms) is one axis, its measured share of the budget the other. Between the largest
structure known to fit and the smallest known not to, logarithms of both are interpolated.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept

MOST_SESSIONS = 6
# How far a table may be off (the goal is 7 % at worst): a measured correction is weighed against it.
_TRUST = 0.07
# A structure this near to the aim keeps its attentions: only hidden units change, whose time is nearly a line.
_NEAR = 0.12
# Timing again brings nothing below this spread, and no edge of the band is nearer than this to be sure.
_SURE = 0.002
_GUARD = 0.005
_STEPS = 8
# A structure that is in the band with less than this probability is not timed again to find out.
_HOPE = 0.4
# At 0.9 one seed of fifty on the fake clock ended below the band; at 0.97 none of 120, with sessions that drift or not.
_LIKELY = 0.97
# A variance below any that a clock has, for one without noise.
_LEAST = 1e-12


@dataclass(frozen=True)
class Session:
    """One timing session. used: measured share of the budget. spread: standard error of it, relative."""

    used: float
    spread: float


@dataclass(frozen=True)
class Goal:
    """The band of shares of the budget to end in, where in it to aim, and how many structures may be timed."""

    budget_ms: float
    low: float
    aim: float
    rounds: int
    high: float = 1.0


@dataclass(frozen=True)
class Value:
    """What a file takes of the budget, by all its timings."""

    sessions: tuple[Session, ...]

    @property
    def used(self) -> float:
        """Share of the budget: the mean over sessions, weighed by `weights`."""
        return sum(w * s.used for w, s in zip(weights(self.sessions), self.sessions, strict=True))

    @property
    def spread(self) -> float:
        """Relative standard error of `used`; sessions that disagree count, not only the rounds inside them."""
        shares, variances = weights(self.sessions), steadied(self.sessions)
        inside = math.sqrt(sum(w**2 * v for w, v in zip(shares, variances, strict=True)))
        agreeing = [s.used for w, s in zip(shares, self.sessions, strict=True) if w]
        if len(agreeing) == 1:
            return inside
        return max(inside, statistics.stdev(agreeing) / self.used / math.sqrt(len(agreeing)))

    def within(self, low: float, high: float) -> float:
        """The probability that what it truly takes is between two shares of the budget, if errors are normal."""
        if not self.spread:
            return float(low <= self.used <= high)
        error = statistics.NormalDist(self.used, self.spread * self.used)
        return error.cdf(high) - error.cdf(low)


def weights(sessions: Sequence[Session]) -> list[float]:
    """How much each session counts, together 1: by its precision; not at all where it contradicts the others.

    Only of three or more is it known which one contradicts: the one far from the median.
    """
    middle = statistics.median_low([s.used for s in sessions])
    alike = [len(sessions) < 3 or not disagree(s, Session(middle, s.spread)) for s in sessions]
    precisions = [ok / (v or _LEAST) for ok, v in zip(alike, steadied(sessions), strict=True)]
    return [p / sum(precisions) for p in precisions]


def steadied(sessions: Sequence[Session]) -> list[float]:
    """The variance (relative) of each session: halfway to that of all, as a few dozen rounds give a rough estimate."""
    usual = statistics.fmean(s.spread**2 for s in sessions)
    return [(s.spread**2 + usual) / 2 for s in sessions]


@dataclass(frozen=True)
class Seen(Value):
    """A timed structure. predicted_ms: by the table."""

    kept: Kept
    structure: Structure
    predicted_ms: float

    def correction(self, goal: Goal) -> float:
        """Logarithm of measured over predicted, less of it the more the timing spreads."""
        seen = math.log(self.used * goal.budget_ms / self.predicted_ms)
        return seen * _TRUST**2 / (_TRUST**2 + self.spread**2)


class StructureTimer(Protocol):
    """What the loop acts on."""

    def propose(self, limit_ms: float, like: Structure | None) -> Kept | None:
        """The best structure that the table predicts within the limit; None where there is none.

        like: one whose attentions and dropped sub-layers it must have; only hidden units are free then.
        """
        ...

    def structure(self, kept: Kept) -> Structure: ...

    def predict(self, structure: Structure) -> float:
        """Milliseconds by the table."""
        ...

    def time(self, kept: Kept) -> Session:
        """One timing of the structure's file, which is exported once."""
        ...


def bracket(timer: StructureTimer, first: Kept | None, goal: Goal, known: Sequence[Seen] = ()) -> list[Seen]:
    """Times structures until one is confirmed inside the band, nothing is left to try, or `goal.rounds` were timed.

    first: where to begin; None to begin from `known`, structures that were timed before. Returns those that were timed
    here, in order; `best` takes one.
    """
    seen = list(known)
    kept = first or following(timer, seen, goal)
    while kept is not None:
        seen.append(timed(timer, kept, seen, goal))
        if confirmed(seen[-1], goal) or len(seen) - len(known) >= goal.rounds:
            break
        kept = following(timer, seen, goal)
    here = seen[len(known) :]
    while here and (doubted := open_choice(here, goal)) is not None:
        here[here.index(doubted)] = again(timer, doubted)
    return here


def best(seen: Sequence[Seen], goal: Goal) -> Seen:
    """Among those that fit, a confirmed one, then the likeliest to be in the band, then the nearest to the aim; the
    smallest if none fits.

    The nearest to the aim alone would often be the one whose error took it there.
    """

    def rank(one: Seen) -> tuple[bool, float, float]:
        return confirmed(one, goal), one.within(goal.low, goal.high), -distance(one, goal)

    inside = [s for s in seen if s.used <= goal.high]
    return max(inside, key=rank) if inside else min(seen, key=lambda s: s.used)


def open_choice(seen: Sequence[Seen], goal: Goal) -> Seen | None:
    """The one that `best` takes, where it was not timed since it was first the best and more sessions are allowed."""
    chosen = best(seen, goal)
    sure = confirmed(chosen, goal) or not chosen.spread or len(chosen.sessions) >= MOST_SESSIONS
    near = goal.low - 3 * chosen.spread <= chosen.used <= goal.high + 3 * chosen.spread
    return chosen if near and not sure and chosen.spread > _SURE else None


def distance(seen: Seen, goal: Goal) -> float:
    return abs(math.log(seen.used / goal.aim))


def settled(seen: Value, goal: Goal) -> bool:
    """Whether it is inside the band by more than its timing may be wrong (three standard errors)."""
    margin = max(3 * seen.spread, _GUARD)
    return goal.low + margin <= seen.used <= goal.high - margin


def confirmed(seen: Value, goal: Goal) -> bool:
    """Whether it was settled before its last session and is so with it: a first value may be inside by its error.

    Of one that was timed as often as is allowed it is enough that it is inside in all likelihood.
    """
    if len(seen.sessions) >= MOST_SESSIONS and seen.within(goal.low, goal.high) >= _LIKELY:
        return True
    before = Value(seen.sessions[:-1] or seen.sessions) if seen.spread else seen
    return settled(seen, goal) and settled(before, goal) and (len(seen.sessions) > 1 or not seen.spread)


def timed(timer: StructureTimer, kept: Kept, seen: Sequence[Seen], goal: Goal) -> Seen:
    """The structure, timed again where the first value is a surprise or leaves open on which side of an edge it is,
    and once more where it would be taken."""
    structure = timer.structure(kept)
    predicted = timer.predict(structure)
    point = Seen((timer.time(kept),), kept, structure, predicted)
    expected = expectation(predicted, seen, goal)
    while doubtful(point, expected, goal) or unconfirmed(point, goal):
        point = again(timer, point)
    return point


def unconfirmed(point: Value, goal: Goal) -> bool:
    return settled(point, goal) and not confirmed(point, goal) and len(point.sessions) < MOST_SESSIONS


def again(timer: StructureTimer, point: Seen) -> Seen:
    return replace(point, sessions=(*point.sessions, timer.time(point.kept)))


def doubtful(point: Value, expected: float, goal: Goal, surprise: float = _TRUST) -> bool:
    """Whether another session is worthwhile. expected: share of the budget; surprise: how far from it is one."""
    sessions = point.sessions
    if len(sessions) >= MOST_SESSIONS:
        return False
    if len(sessions) == 1 and abs(math.log(point.used / expected)) > max(surprise, 3 * point.spread):
        return True
    if len(sessions) == 2 and disagree(*sessions):
        return True
    # One that is rather outside is left as it is: the next structure costs more than a timing, but is nearer.
    open_ = point.within(goal.low, goal.high) >= _HOPE and not settled(point, goal)
    return open_ and point.spread > _SURE


def contradict(one: Value, other: Value, drift: float = _GUARD) -> bool:
    """Whether two files differ by more than their timings may be wrong. drift: what the device may change besides."""
    return disagree(Session(one.used, one.spread), Session(other.used, other.spread), drift)


def disagree(one: Session, other: Session, drift: float = _GUARD) -> bool:
    return abs(math.log(one.used / other.used)) > 3 * math.hypot(one.spread, other.spread) + drift


def expectation(predicted_ms: float, seen: Sequence[Seen], goal: Goal) -> float:
    """The share of the budget that a structure should take, by the table and the nearest structure that was timed."""
    nearest = min(seen, key=lambda s: abs(math.log(s.predicted_ms / predicted_ms)), default=None)
    return predicted_ms / goal.budget_ms * math.exp(nearest.correction(goal) if nearest else 0.0)


def following(timer: StructureTimer, seen: Sequence[Seen], goal: Goal) -> Kept | None:
    """The next structure to time; None where nothing new is left between the brackets."""
    base, known = min(seen, key=lambda s: distance(s, goal)), {s.structure for s in seen}
    searches: list[tuple[Structure | None, Sequence[Seen]]] = [(None, seen)]
    if distance(base, goal) <= _NEAR:
        searches.insert(0, (base.structure, [s for s in seen if alike(s.structure, base.structure)]))
    for like, points in searches:
        for limit in limits(points, goal):
            kept = timer.propose(limit, like)
            if kept is not None and timer.structure(kept) not in known:
                return kept
    return None


def alike(one: Structure, other: Structure) -> bool:
    """Whether two structures differ in the number of hidden units alone, and drop the same sub-layers."""
    widths = [[(b.heads, b.head_dim, b.hidden > 0) for b in s.blocks] for s in (one, other)]
    return widths[0] == widths[1]


def limits(points: Sequence[Seen], goal: Goal) -> Iterator[float]:
    """Limits (ms, by the table) to look for the next structure at, the most likely one first."""
    fits = max((s for s in points if s.used <= goal.aim), key=lambda s: s.predicted_ms, default=None)
    over = min((s for s in points if s.used > goal.aim), key=lambda s: s.predicted_ms, default=None)
    if fits and over and fits.predicted_ms < over.predicted_ms:
        low, high = fits.predicted_ms, over.predicted_ms
        yield interpolated(fits, over, goal)
        for step in range(1, _STEPS):
            yield low * (high / low) ** (step / _STEPS)
        return
    nearest = min(points, key=lambda s: distance(s, goal))
    wanted = goal.aim * goal.budget_ms * math.exp(-nearest.correction(goal))
    yield wanted
    # Nothing new there: what there is steps by more than was asked for.
    direction = 1 if nearest.used <= goal.aim else -1
    for step in range(6):
        yield wanted * math.exp(direction * 0.005 * 2**step)


def interpolated(fits: Seen, over: Seen, goal: Goal) -> float:
    """Where the line between two points, in logarithms, meets the aim; never quite at one of them."""
    low, high = math.log(fits.predicted_ms), math.log(over.predicted_ms)
    low_used, high_used = low + fits.correction(goal), high + over.correction(goal)
    share = (math.log(goal.aim * goal.budget_ms) - low_used) / max(high_used - low_used, 1e-9)
    return math.exp(low + min(0.95, max(0.05, share)) * (high - low))
