"""wdp_edge/protocols/device.py: plans of timings, and the figures that are made of runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.errors import InputError
from wdp_edge.protocols.device import TimingPlan, summarise


@given(st.lists(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=9), min_size=1, max_size=9))
def test_summary_is_ordered_and_within_the_runs(rounds: list[list[float]]) -> None:
    timing = summarise(rounds)
    every = [t for times in rounds for t in times]
    assert min(every) == timing.latency.min <= timing.latency.p50 <= max(every)
    assert timing.latency.min <= timing.latency.p90 <= max(every)
    assert len(timing.rounds) == len(rounds)
    assert timing.rounds == tuple(min(r) for r in rounds)


def test_plans_are_checked() -> None:
    with pytest.raises(InputError, match="no core -1"):
        TimingPlan(cpus=(0, -1))
    for seconds in (-1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="cooldown_seconds must be finite"):
            TimingPlan(cooldown_seconds=seconds)
