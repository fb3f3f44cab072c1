"""wdp_edge/devices/local.py: real files timed in worker processes of this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_net import LARGE, SMALL

from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError
from wdp_edge.protocols.device import TimingPlan, ratio

PLAN = TimingPlan(rounds=3, runs=4, warmup=1)


def test_times_come_back_in_the_order_given(programs: dict[int, Path]) -> None:
    seen: list[tuple[int, int]] = []
    paths = [programs[LARGE], programs[SMALL], programs[LARGE]]
    large, small, again = LocalDevice().time("executorch", paths, PLAN, lambda a, b: seen.append((a, b)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert all(len(t.rounds) == 3 for t in (large, small, again))
    assert small.latency.min <= small.latency.p50 <= small.latency.p90
    # 2,500 times the work: true on any machine, however busy
    assert ratio(large, small) > 3 and ratio(again, small) > 3


def test_several_threads_are_timed_too(programs: dict[int, Path]) -> None:
    (timing,) = LocalDevice().time("executorch", [programs[SMALL]], TimingPlan(rounds=2, runs=3, warmup=1, threads=2))
    assert len(timing.rounds) == 2 and timing.latency.min > 0


def test_corrupt_artifact_is_the_users_error(programs: dict[int, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.pte"
    bad.write_bytes(programs[SMALL].read_bytes()[:-100])
    with pytest.raises(InputError, match="cut short"):
        LocalDevice().time("executorch", [programs[SMALL], bad], PLAN)
    with pytest.raises(InputError, match="no target"):
        LocalDevice().time("nonsense", [programs[SMALL]], PLAN)


def test_probe_names_this_machine() -> None:
    info = LocalDevice().probe()
    assert info.cores >= 1 and info.model and info.system
    assert info == LocalDevice().probe()
    assert info.key.startswith("local|")


def test_cores_and_rests(programs: dict[int, Path]) -> None:
    plan = TimingPlan(rounds=2, runs=2, warmup=1, cpus=(0,), cooldown_seconds=0.01)
    (timing,) = LocalDevice().time("executorch", [programs[SMALL]], plan)
    assert len(timing.rounds) == 2
    with pytest.raises(InputError, match="cores 100000"):
        LocalDevice().time("executorch", [programs[SMALL]], replace(plan, cpus=(100_000,)))
