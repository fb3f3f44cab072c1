"""How many rounds an artifact is timed for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.device import TimingPlan
from wdp_edge.pipeline.timing import spread_over


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


@given(st.integers(1, 50), st.integers(1, 30), st.floats(0, 60), st.floats(0.01, 500))
def test_never_fewer_rounds_and_never_less_time(rounds: int, runs: int, seconds: float, all_ms: float) -> None:
    plan = spread_over(TimingPlan(rounds=rounds, runs=runs), seconds, all_ms)
    assert plan.rounds >= rounds
    assert plan.rounds * (plan.runs + plan.warmup) * all_ms / 1000 >= seconds * (1 - 1e-9)
