"""wdp_edge/devices/conditions.py: what devices show of themselves, and what counts as slowing down."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_sysfs import fake_sysfs
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.devices.conditions import (
    Reading,
    observed,
    parse_clock,
    parse_temperature,
    read_here,
    read_there,
    throttling,
)
from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.protocols.device import Conditions, Latency, Timing, TimingPlan, is_warm

# Of a phone: sensors that are off (-273 °C, 0), one in other units, and what a shell that may not read says.
ZONES = "-273000\n0\n41200\n38900\n450000\ncat: /sys/class/thermal/thermal_zone9/temp: Invalid argument\n43700\n25\n"
CLOCKS = "1804800\n1804800\n0\n2841600\n<unknown>\n"


def test_the_hottest_sensor_and_the_fastest_core() -> None:
    assert parse_temperature(ZONES) == 43.7
    assert parse_clock(CLOCKS) == 2841.6
    assert parse_temperature("") is None and parse_clock("") is None


@given(st.text())
def test_whatever_a_device_says_is_plausible_or_nothing(text: str) -> None:
    degrees, mhz = parse_temperature(text), parse_clock(text)
    assert degrees is None or 1 <= degrees <= 150
    assert mhz is None or mhz > 0


def test_this_machine_is_read_from_its_sysfs(tmp_path: Path) -> None:
    fake_sysfs(tmp_path)
    # Core 4000 is none that this process may use.
    assert read_here(tmp_path) == Reading(44.5, 2400.0)
    assert read_here(tmp_path / "nowhere") == Reading()


def test_a_shell_reads_what_this_process_reads(tmp_path: Path) -> None:
    """On this machine, whatever it shows."""
    here, there = read_here(), read_there(LocalHost(folder=tmp_path), [])
    assert (here.temperature is None, here.clock_mhz is None) == (there.temperature is None, there.clock_mhz is None)


@pytest.mark.parametrize(
    ("clock", "rounds", "sign"),
    [
        (None, [], None),
        (None, [[1.0, 9.0]], None),
        ((2000.0, 1801.0), [], None),
        ((2000.0, 1799.0), [], "its clock fell from 2000 to 1799 MHz"),
        ((1000.0, 2000.0), [[1.0] * 6], None),
        (None, [[1.0, 1.0, 1.1, 1.1, 1.2, 1.2]], "the last rounds took 20% longer than the first ones"),
        (None, [[1.0, 1.0, 1.1, 1.1, 1.2]], None),
        (None, [[1.0, 1.0, 1.0, 1.0, 1.2, 1.2], [3.0] * 6], None),
        (None, [[1.0, 1.0, 1.0, 1.0, 1.3, 1.3], [3.0, 3.0, 3.0, 3.0, 3.6, 3.6]], "the last rounds took 20% longer"),
        (None, [[1.2, 1.2, 1.0, 1.0, 1.0, 1.0]], None),
    ],
)
def test_signs_of_slowing_down(clock: tuple[float, float] | None, rounds: list[list[float]], sign: str | None) -> None:
    found = throttling(clock, rounds)
    assert (found or "").startswith(sign or "") and (found is None) == (sign is None)


def test_figures_carry_what_is_known() -> None:
    timing = Timing(Latency(1.0, 1.0, 1.0), (1.0,) * 6, peak_memory=5)
    (plain,) = observed("d", [timing], Reading(None, 2000.0), Reading(40.0, None))
    assert plain == timing, "half of a pair is none"
    (warm,) = observed("d", [timing], Reading(40.0, None), Reading(45.0, None))
    assert warm.latency.conditions == Conditions((40.0, 45.0)) and warm.peak_memory == 5


@given(
    st.lists(st.floats(0.001, 1e4), max_size=60),
    st.integers(0, 5),
    st.integers(0, 30),
)
def test_warming_up_is_bounded(times: list[float], warmup: int, settle: int) -> None:
    plan = TimingPlan(warmup=warmup, settle=settle)
    done = next((n for n in range(len(times) + 1) if is_warm(times[:n], plan)), None)
    if done is None:
        assert len(times) < warmup + settle
        return
    assert warmup <= done <= warmup + settle
    if warmup < done < warmup + settle and sum(times[:done]) < 1000:
        last = times[:done][-3:]
        assert len(last) == 3 and max(last) <= 1.05 * min(last)


@pytest.mark.parametrize(
    ("times", "runs"),
    [
        ([9.0, 5.0, 2.0, 1.0, 1.0, 1.04, 1.0], 6),
        ([1.0, 1.0, 1.0, 1.0], 3),
        ([400.0, 390.0, 300.0, 1.0], 3),
        ([1.0, 2.0] * 20, 23),
    ],
)
def test_a_file_is_warm_when_three_runs_agree(times: list[float], runs: int) -> None:
    plan = TimingPlan(warmup=3)
    assert next(n for n in range(len(times) + 1) if is_warm(times[:n], plan)) == runs
    fixed = TimingPlan(warmup=3, settle=0)
    assert next(n for n in range(len(times) + 1) if is_warm(times[:n], fixed)) == 3
