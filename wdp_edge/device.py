"""What a device is: where an artifact runs and is timed. Results of timing, and what may be said from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from wdp_edge.errors import InputError

_ALIKE = 3
_ALIKE_RATIO = 1.05
_WARM_MS = 1000.0


class Kind(StrEnum):
    """What stands behind a time: wall time on the device, an emulator's count, or a model over counts."""

    MEASURED = "measured"
    VIRTUAL = "virtual"
    ESTIMATED = "estimated"


@dataclass(frozen=True)
class Conditions:
    """How the device was before the first timed round and after the last one; None for what it hides.

    temperature: °C of the hottest sensor. clock_mhz: the fastest one of the cores that may be used.
    throttled: the sign that the device slowed down meanwhile; None without one.
    """

    temperature: tuple[float, float] | None = None
    clock_mhz: tuple[float, float] | None = None
    throttled: str | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image.

    conditions: of the whole timing that it is from; None when nothing is known. caveat: what has to be known to read
    the figures, such as that nobody checked the outputs; None for a timing by wdp-edge's own means.
    """

    p50: float
    p90: float
    min: float
    kind: Kind = Kind.MEASURED
    conditions: Conditions | None = None
    caveat: str | None = None


@dataclass(frozen=True)
class Timing:
    """Latency over all runs, and the fastest run of each interleaved round (in ms) for drift-free comparisons.

    peak_memory: bytes of the process that ran the file (and those timed with it), where timing tells.
    """

    latency: Latency
    rounds: tuple[float, ...]
    peak_memory: int | None = None


@dataclass(frozen=True)
class TimingPlan:
    """How often an artifact is run: `rounds` interleaved rounds of `runs` timed runs after `warmup` untimed ones.

    cpus: numbers of the cores that the runtime may use, () for any. cooldown_seconds: a rest between rounds.
    settle: how many more untimed runs there may be until an artifact is warm (`is_warm`).
    Raises InputError for negative numbers.
    """

    rounds: int = 12
    runs: int = 15
    warmup: int = 3
    threads: int = 1
    cpus: tuple[int, ...] = ()
    cooldown_seconds: float = 0.0
    settle: int = 20

    def __post_init__(self) -> None:
        if any(cpu < 0 for cpu in self.cpus):
            raise InputError(f"There is no core {min(self.cpus)}.", "Cores are numbered from 0.")
        if not 0 <= self.cooldown_seconds < math.inf:
            raise InputError(f"Nothing can rest for {self.cooldown_seconds:g} s.", "Give seconds from 0 on.")


@dataclass(frozen=True)
class DeviceInfo:
    """What a latency depends on. `key` names it in caches: two devices with one key are the same kind."""

    name: str
    model: str
    cores: int
    features: tuple[str, ...]
    system: str

    @property
    def key(self) -> str:
        return "|".join([self.name, self.model, str(self.cores), ",".join(self.features), self.system])


class Device(Protocol):
    """Runs artifacts somewhere and times them. kind: what stands behind its times."""

    name: str
    kind: Kind

    def probe(self) -> DeviceInfo: ...

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times the artifacts in interleaved rounds in one process (A B C A B C …), in the given order.

        on_round(done, total) is told of every finished round.
        """
        ...

    def peak_memory(self, target: str, artifact: Path, threads: int) -> int:
        """The most memory, in bytes, of a process that runs the artifact alone, with the target's native runner.

        Raises InputError where nothing tells: for a target without a native runner, and on an emulator.
        """
        ...


def is_warm(times: Sequence[float], plan: TimingPlan) -> bool:
    """Whether the timed runs may begin after untimed ones that took `times` (ms).

    There are at least `plan.warmup` of them. Then the last three must agree to 5 %, or there were `plan.settle` more,
    or they took a second in all. runners/contract.c has the same rule.
    """
    if len(times) < plan.warmup:
        return False
    if len(times) >= plan.warmup + plan.settle or sum(times) >= _WARM_MS:
        return True
    last = times[-_ALIKE:]
    return len(last) == _ALIKE and max(last) <= _ALIKE_RATIO * min(last)


def usual(times: Sequence[float]) -> float:
    """The mean without the slowest fifth, which other processes have disturbed."""
    kept = sorted(times)[: max(1, round(0.8 * len(times)))]
    return statistics.fmean(kept)


def ratio(timing: Timing, reference: Timing) -> float:
    """How long `timing` takes relative to `reference`, from the same interleaved run.

    The median over rounds of the per-round ratio: a busy machine slows both sides of a round alike.
    """
    return statistics.median(a / b for a, b in zip(timing.rounds, reference.rounds, strict=True))
