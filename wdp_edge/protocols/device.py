"""What a device is, how one is found (entry points of `wdp_edge.devices`), results of timing and what they say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wdp_edge.errors import InputError, SetupError

if TYPE_CHECKING:
    from wdp_edge.protocols.target import OperatorTime

GROUP = "wdp_edge.devices"
LOCAL = "local"

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
            raise InputError(
                f"cooldown_seconds must be finite and at least 0, not {self.cooldown_seconds:g}.", "Give seconds."
            )


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
    """Runs artifacts somewhere and times them. kind: what stands behind its times.

    It may have `targets`: names of those whose files it runs, where these are few.
    """

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


@runtime_checkable
class TracingDevice(Protocol):
    """A device that tells times of operators. operator_kind: what stands behind these."""

    name: str
    operator_kind: Kind

    def traces(self, target: str) -> bool:
        """Whether files of this target tell theirs here."""
        ...

    def trace(self, target: str, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the file's operators, in the order they run."""
        ...


@dataclass(frozen=True)
class DeviceKind:
    """Devices of one kind. An entry point of the group `wdp_edge.devices` calls it what their names begin with.

    forms: how their names are written, such as "ssh:user@host[:port]"; without a colon, the name itself.
    make: the device of a name, not connected yet; one name is one device.
    with_runner: the same for a program of the user's that times files there; None where none can.
    """

    forms: tuple[str, ...]
    make: Callable[[str], Device]
    with_runner: Callable[[str, Path], Device] | None = None


def kind_of(name: str) -> DeviceKind:
    """The kind of the device called `name`; nothing is connected.

    Raises InputError for a name that has none of the known forms, SetupError for a kind that cannot be imported.
    """
    scheme, colon, rest = name.partition(":")
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if scheme in found:
        kind = _loaded(found[scheme])
        if name in kind.forms or (colon and rest and any(form.startswith(f"{scheme}:") for form in kind.forms)):
            return kind
    here_first = sorted(found, key=lambda kind: (kind != LOCAL, kind))
    known = [form for kind in here_first for form in _forms(found[kind])]
    hint = f"Known devices: {', '.join(known)}." if known else "None is known: install wdp-edge again."
    raise InputError(f"There is no device '{name}'.", hint)


def _forms(entry: EntryPoint, with_runner: bool = False) -> tuple[str, ...]:
    """How names of this kind are written; of one that cannot be imported only how they begin.

    with_runner: none where no program of the user's can time files.
    """
    try:
        kind = _loaded(entry)
    except SetupError:
        return () if with_runner else (f"{entry.name}:…",)
    return () if with_runner and kind.with_runner is None else kind.forms


def _loaded(entry: EntryPoint) -> DeviceKind:
    try:
        kind: DeviceKind = entry.load()
    except ImportError as error:
        package = entry.dist.name if entry.dist else entry.module
        raise SetupError(
            f"Devices '{entry.name}' cannot be imported: {error}.", f"Install what {package} needs."
        ) from error
    return kind


def get_device(name: str, runner: str = "") -> Device:
    """The device called `name`, not connected yet.

    runner: the path of a program of the user's that times files there; "" for wdp-edge's own means.
    Raises InputError for a name of no device, or one that can run no such program, SetupError for Apple's anywhere but
    on a Mac.
    """
    kind = kind_of(name)
    if not runner:
        return kind.make(name)
    if kind.with_runner is None:
        those = [form for entry in entry_points(group=GROUP) for form in _forms(entry, with_runner=True)]
        known = ", ".join(sorted(those))
        raise InputError(f"Device '{name}' takes no runner of your own.", f"Leave it out, or name one of: {known}.")
    return kind.with_runner(name, Path(runner))


def runs_on(device: Device, target: str) -> bool:
    """Whether the device runs files of this target at all; what it lacks for one, it says itself."""
    targets = getattr(device, "targets", None)
    return targets is None or target in targets


def check_pair(device: Device, target: str) -> None:
    """Raises InputError for files that the device does not run."""
    if not runs_on(device, target):
        few = ", ".join(getattr(device, "targets", ()))
        raise InputError(
            f"The device '{device.name}' times files of target '{few}' only, not of '{target}'.",
            f"Take the target {few}, or the device local.",
        )


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


def summarise(rounds: Sequence[Sequence[float]], kind: Kind = Kind.MEASURED) -> Timing:
    """rounds: milliseconds of every run, per round.

    A run of 0 ms does not count: the clock of a thread stands still while a virtual machine's host has its core.
    Raises SetupError when a round has no other run.
    """
    rounds = [[t for t in times if t > 0] for times in rounds]
    if not all(rounds):
        raise SetupError(
            "The device's clock is too coarse for this file: every run of a round took 0 ms.",
            "Time a larger model, or time this one on another device.",
        )
    every = sorted(t for times in rounds for t in times)
    p90 = every[min(len(every) - 1, int(0.9 * len(every)))]
    latency = Latency(p50=statistics.median(every), p90=p90, min=every[0], kind=kind)
    # Other processes can only slow a run down, by taking the core, the caches or the memory, and long runs more
    # than short ones; the fastest run of a round is what survives a busy machine without bias.
    return Timing(latency, tuple(min(times) for times in rounds))
