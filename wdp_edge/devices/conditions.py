"""The state of a device while files are timed: temperature, clock, and signs that it slowed down."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge import progress
from wdp_edge.protocols.device import Conditions, Timing

if TYPE_CHECKING:
    from wdp_edge.devices.hosts.host import Host

_THERMAL = "sys/class/thermal"
_CPUS = "sys/devices/system/cpu"
_CLOCK = "cpufreq/scaling_cur_freq"
# Sensors that are not connected give values such as 0 or -273 degrees.
_COLDEST, _HOTTEST = 1.0, 150.0
_ANSWER_SECONDS = 60.0

# What counts as slowing down: the clock below this share of the one before, or rounds longer by this factor.
_CLOCK_SHARE = 0.9
_ROUNDS_RATIO = 1.1
_FEWEST_ROUNDS = 6


@dataclass(frozen=True)
class Reading:
    """temperature: °C of the hottest sensor. clock_mhz: of the fastest core. None for what the device hides."""

    temperature: float | None = None
    clock_mhz: float | None = None


def parse_temperature(text: str) -> float | None:
    """The hottest plausible value of /sys/class/thermal/thermal_zone*/temp, lines of thousandths of a degree."""
    degrees = [n / 1e3 for n in _whole_numbers(text) if _COLDEST <= n / 1e3 <= _HOTTEST]
    return max(degrees, default=None)


def parse_clock(text: str) -> float | None:
    """MHz of the fastest core, from /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq, lines of kHz."""
    return max((n / 1e3 for n in _whole_numbers(text) if n > 0), default=None)


def read_here(root: Path = Path("/")) -> Reading:
    """State of this machine and of the cores that this process may use; empty except on Linux. root: of /sys."""
    zones = sorted((root / _THERMAL).glob("thermal_zone*/temp"))
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    clocks = [root / _CPUS / f"cpu{cpu}" / _CLOCK for cpu in sorted(cpus)]
    return Reading(parse_temperature(_content(zones)), parse_clock(_content(clocks)))


def read_there(host: Host, cpus: Sequence[int]) -> Reading:
    """State of a device with a shell. cpus: cores whose clock counts, () for all. Raises SetupError when it is lost."""
    cores = [f"cpu{cpu}" for cpu in cpus] or ["cpu[0-9]*"]
    clocks = " ".join(f"/{_CPUS}/{core}/{_CLOCK}" for core in cores)
    return Reading(
        parse_temperature(_shown(host, f"/{_THERMAL}/thermal_zone*/temp")),
        parse_clock(_shown(host, clocks)),
    )


def throttling(clock_mhz: tuple[float, float] | None, rounds: Sequence[Sequence[float]]) -> str | None:
    """The sign that a device slowed down, None without one.

    clock_mhz: before and after; below nine tenths afterwards is a sign. rounds: ms of each round, per file; a sign is
    that the last third takes more than a tenth longer than the first, by the medians, for every file alike. That needs
    six rounds.
    """
    if clock_mhz is not None and clock_mhz[1] < _CLOCK_SHARE * clock_mhz[0]:
        return f"its clock fell from {clock_mhz[0]:.0f} to {clock_mhz[1]:.0f} MHz"
    third = min(map(len, rounds), default=0) // 3
    if 3 * third < _FEWEST_ROUNDS:
        return None
    rise = min(statistics.median(times[-third:]) / statistics.median(times[:third]) for times in rounds)
    return f"the last rounds took {rise - 1:.0%} longer than the first ones" if rise > _ROUNDS_RATIO else None


def observed(
    name: str, timings: Sequence[Timing], before: Reading, after: Reading, at_work: bool = True
) -> list[Timing]:
    """The timings with what was read from the device before and after; says so when the device slowed down.

    name: of the device. at_work: whether it was read while files ran; otherwise its clock may fall for that alone.
    """
    clock = _pair(before.clock_mhz, after.clock_mhz)
    throttled = throttling(clock if at_work else None, [timing.rounds for timing in timings])
    if throttled:
        progress.say(f"warning: {name} slowed down: {throttled}")
    conditions = Conditions(_pair(before.temperature, after.temperature), clock, throttled)
    known = conditions if conditions != Conditions() else None
    return [replace(t, latency=replace(t.latency, conditions=known)) for t in timings]


def _pair(before: float | None, after: float | None) -> tuple[float, float] | None:
    return None if before is None or after is None else (before, after)


def _whole_numbers(text: str) -> list[int]:
    """Numbers from the lines that hold one; a device may write anything else between them."""
    lines = [line.strip() for line in text.splitlines()]
    return [int(line) for line in lines if line.removeprefix("-").isdecimal() and line.isascii() and len(line) < 12]


def _content(paths: Sequence[Path]) -> str:
    """Contents of those that can be read: a sensor that is off gives an error instead of a value."""
    found = []
    for path in paths:
        try:
            found.append(path.read_text(encoding="ascii", errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def _shown(host: Host, pattern: str) -> str:
    """The content of files on a device, of those that it shows."""
    return host.run(["sh", "-c", f"cat {pattern} 2>/dev/null"], _ANSWER_SECONDS).out
