"""How long files are timed, and what their times beside the dense one say of the budget. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from wdp_edge.config.values import LatencyBudget
from wdp_edge.protocols.device import Latency, TimingPlan
from wdp_edge.runs.stages import Measured
from wdp_edge.select.bracket import Session, Value, weights

_RUNS_IN_TURN = 3


def repeated(once: Callable[[], Measured], in_doubt: Callable[[Sequence[Measured]], bool]) -> list[Measured]:
    """Timings of one file: one, and more for as long as they leave something in doubt."""
    seen = [once()]
    while in_doubt(seen):
        seen.append(once())
    return seen


def alternating(plan: TimingPlan) -> TimingPlan:
    """A plan for two files that takes turns after few runs. One with rests between its rounds stays as it is.

    What disturbs a machine lasts for tenths of a second and longer, and it cancels only within a round: beside two
    other processes the ratio of two files scattered by 3.2 % from process to process in 14 rounds of 15 runs, by 1.3 %
    in 49 rounds of 3 in the same time. A file that ran a moment ago needs no more than the plan's own untimed runs.
    """
    if plan.cooldown_seconds:
        return plan
    return replace(plan, runs=min(plan.runs, _RUNS_IN_TURN), settle=0)


def spread_over(plan: TimingPlan, seconds: float, all_ms: float) -> TimingPlan:
    """A plan whose rounds take at least `seconds`: what disturbs a device for a moment is then a small part of them.

    all_ms: about what one run of every artifact takes. A plan with rests between its rounds is long enough as it is.
    """
    if plan.cooldown_seconds:
        return plan
    round_seconds = (plan.warmup + plan.runs) * all_ms / 1000.0
    return replace(plan, rounds=max(plan.rounds, math.ceil(seconds / round_seconds)))


def used_share(measured: Measured, budget: LatencyBudget) -> float:
    """Measured latency over budget. A share of the dense latency is judged by the interleaved ratio."""
    if budget.share is not None:
        return measured.ratio / budget.share
    return measured.shipped.p50 / measured.budget_ms


def session_of(measured: Measured, budget: LatencyBudget) -> Session:
    """Share of the budget, and its standard error by how much the rounds differ."""
    values = list(measured.rounds_shipped)
    if budget.share is not None:
        values = [a / b for a, b in zip(measured.rounds_shipped, measured.rounds_dense, strict=True)]
    return Session(used_share(measured, budget), relative_error(values))


def value_of(budget: LatencyBudget, measured: Sequence[Measured]) -> Value:
    """What a file takes of the budget by several timings."""
    return Value(tuple(session_of(m, budget) for m in measured))


def relative_error(values: Sequence[float]) -> float:
    """Of the median of these values: from their median absolute deviation, which a few disturbed ones do not move."""
    middle = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(v - middle) for v in values)
    return 1.2533 * deviation / middle / math.sqrt(len(values))


def pooled(measured: Sequence[Measured], budget: LatencyBudget) -> Measured:
    """Several timings of the same two files as one: means weighed as `Value` weighs sessions, and the rounds of all.

    Its share of the budget is therefore the value by which the loop decided.
    """
    shares = weights([session_of(m, budget) for m in measured])
    dense = pooled_latency([m.dense for m in measured], shares)
    return Measured(
        dense=dense,
        shipped=pooled_latency([m.shipped for m in measured], shares),
        ratio=weighed(shares, [m.ratio for m in measured]),
        budget_ms=budget.resolve(dense.p50),
        rounds_dense=[ms for m in measured for ms in m.rounds_dense],
        rounds_shipped=[ms for m in measured for ms in m.rounds_shipped],
    )


def pooled_latency(latencies: Sequence[Latency], shares: Sequence[float]) -> Latency:
    """Means by these weights; the conditions of a timing in which the device slowed down, or else of the last one."""
    slowed = [x for x in latencies if x.conditions is not None and x.conditions.throttled]
    return replace(
        (slowed or list(latencies))[-1],
        p50=weighed(shares, [x.p50 for x in latencies]),
        p90=weighed(shares, [x.p90 for x in latencies]),
        min=min(x.min for x in latencies),
    )


def weighed(shares: Sequence[float], values: Sequence[float]) -> float:
    """The mean; exactly a single value."""
    return values[0] if len(values) == 1 else sum(s * v for s, v in zip(shares, values, strict=True))
