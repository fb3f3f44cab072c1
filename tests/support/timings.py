"""Timings whose rounds are written down."""

from __future__ import annotations

from wdp_edge.config.values import LatencyBudget
from wdp_edge.protocols.device import Latency
from wdp_edge.runs.stages import Measured


def timing(share: float, budget: LatencyBudget, noise: float = 0.01) -> Measured:
    """Of a file that takes this share of a dense one of 10 ms."""
    ms = 10 * share
    rounds = [ms * (1 + noise * (i % 5 - 2)) for i in range(20)]
    return Measured(Latency(10, 11, 9), Latency(ms, ms, ms), share, budget.resolve(10.0), [10.0] * 20, rounds)
