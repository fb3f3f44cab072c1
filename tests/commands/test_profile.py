"""Times of operators put together, and a file held against a budget."""

from __future__ import annotations

from typing import Any

import pytest

from wdp_edge.commands.profile import against, by_kind, by_part, traced_on
from wdp_edge.config.values import LatencyBudget
from wdp_edge.errors import InputError
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.protocols.device import Kind, Latency, Timing, get_device
from wdp_edge.protocols.target import OperatorRole, OperatorTime


def timing(*rounds: float) -> Timing:
    return Timing(Latency(rounds[0], rounds[0], rounds[0]), rounds)


def test_a_share_is_judged_by_the_rounds_and_milliseconds_by_the_median() -> None:
    timings = [timing(4.0, 8.0, 6.0), timing(10.0, 16.0, 12.0)]
    share = against(LatencyBudget(share=0.5), timings, Kind.MEASURED)
    assert (share.ratio, share.latency_ms, share.met) == (pytest.approx(1.0), 5.0, True)
    fixed = against(LatencyBudget(milliseconds=3.0), timings[:1], Kind.VIRTUAL)
    assert (fixed.ratio, fixed.met, fixed.kind) == (pytest.approx(4 / 3), False, Kind.VIRTUAL)


def test_kinds_of_operators_are_added_up_the_slowest_first() -> None:
    linear, other = OperatorRole.LINEAR, OperatorRole.OTHER
    times = [
        OperatorTime("add", other, 1.0, False),
        OperatorTime("linear", linear, 2.0, True),
        OperatorTime("linear", linear, 3.0, False),
    ]
    assert [(k.kind, k.count, k.delegated, k.ms) for k in by_kind(times)] == [
        ("linear", 2, 1, 5.0),
        ("add", 1, 0, 1.0),
    ]


def test_operators_in_an_order_that_nobody_knows_have_no_parts() -> None:
    assert (
        by_part([OperatorTime("x", OperatorRole.OTHER, 1.0, False)], Structure(32, (BlockWidths(2, 16, 64),))) is None
    )


def test_a_device_without_times_of_operators_is_named() -> None:
    silent: Any = type("Silent", (), {"name": "adb:1"})()
    with pytest.raises(InputError, match=r"adb:1.*--per-op"):
        traced_on(silent, "onnx")
    with pytest.raises(InputError, match="coreml"):
        traced_on(get_device("local"), "coreml")
