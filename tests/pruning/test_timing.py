"""How many rounds an artifact is timed for, and what several timings say together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from timings import timing

from wdp_edge.config.values import parse_budget
from wdp_edge.protocols.device import TimingPlan
from wdp_edge.pruning.timing import alternating, pooled, session_of, spread_over, used_share
from wdp_edge.select.bracket import Value


@pytest.mark.parametrize(
    ("plan", "seconds", "all_ms", "rounds"),
    [
        (TimingPlan(rounds=12, runs=15, warmup=3), 4.0, 6.0, 38),  # 108 ms each
        (TimingPlan(rounds=12, runs=15, warmup=3), 4.0, 60.0, 12),  # long enough as it is
        (TimingPlan(rounds=12, runs=15, warmup=3), 0.0, 6.0, 12),
        (TimingPlan(rounds=12, runs=15, warmup=3, cooldown_seconds=2.0), 60.0, 6.0, 12),
    ],
)
def test_rounds_fill_the_time(plan: TimingPlan, seconds: float, all_ms: float, rounds: int) -> None:
    assert spread_over(plan, seconds, all_ms).rounds == rounds


def test_two_files_take_turns_after_few_runs() -> None:
    plan = TimingPlan(rounds=20, runs=15, warmup=2)
    assert alternating(plan) == TimingPlan(rounds=20, runs=3, warmup=2, settle=0)
    assert alternating(replace(plan, runs=1)).runs == 1
    resting = replace(plan, cooldown_seconds=1.0)
    assert alternating(resting) is resting, "every round costs a rest"


@given(st.integers(1, 50), st.integers(1, 30), st.floats(0, 60), st.floats(0.01, 500))
def test_never_fewer_rounds_and_never_less_time(rounds: int, runs: int, seconds: float, all_ms: float) -> None:
    plan = spread_over(TimingPlan(rounds=rounds, runs=runs), seconds, all_ms)
    assert plan.rounds >= rounds
    assert plan.rounds * (plan.runs + plan.warmup) * all_ms / 1000 >= seconds * (1 - 1e-9)


@pytest.mark.parametrize("text", ["50%", "5ms"])
def test_timings_together_say_what_the_loop_decided_by(text: str) -> None:
    budget = parse_budget(text)
    seen = [timing(0.48, budget), timing(0.49, budget, 0.03), timing(0.47, budget)]
    together = pooled(seen, budget)
    assert used_share(together, budget) == pytest.approx(Value(tuple(session_of(m, budget) for m in seen)).used)
    assert together.shipped.p50 / together.dense.p50 == pytest.approx(together.ratio)
    assert len(together.rounds_shipped) == 60
    assert pooled(seen[:1], budget) == seen[0]
