"""Where the time of an artifact goes, operator by operator, and which parts of the model these are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from wdp_edge.cost.parts import Part, parts_of
from wdp_edge.device import Device
from wdp_edge.devices.apple import AppleDevice
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError
from wdp_edge.pipeline.sidecar import read_sidecar
from wdp_edge.results import KindTime, OperatorProfile, OperatorProfiles, PartTime
from wdp_edge.structure import Structure
from wdp_edge.target import OperatorTime, Tracing, get_target

_RUNS = 60


TracingDevice = LocalDevice | AppleDevice


def traced_on(device: Device, target: str) -> TracingDevice:
    """`device`, when it tells times of operators. Raises InputError for a device or a target that does not."""
    if not isinstance(device, TracingDevice):
        raise InputError(
            f"Operators are timed on this machine and on Apple's devices only, not on '{device.name}'.",
            "Leave --per-op out, or time it on local.",
        )
    if isinstance(device, LocalDevice) and not isinstance(get_target(target), Tracing):
        raise InputError(f"The runtime of '{target}' tells no times of operators.", "Leave --per-op out.")
    return device


def profile_operators(device: TracingDevice, path: Path, dense: Path | None, threads: int) -> OperatorProfiles:
    """The artifact's operators, and those of the dense one beside it."""
    return OperatorProfiles(one(device, path, threads), one(device, dense, threads) if dense else None)


def one(device: TracingDevice, path: Path, threads: int) -> OperatorProfile:
    sidecar = read_sidecar(path)
    times = device.trace(sidecar.target, path, threads, _RUNS)
    return OperatorProfile(
        path=path,
        ms=sum(t.ms for t in times),
        outside_ms=sum(t.ms for t in times if not t.delegated),
        kinds=by_kind(times),
        parts=by_part(times, sidecar.structure),
        kind=device.operator_kind,
    )


def by_kind(times: Sequence[OperatorTime]) -> list[KindTime]:
    """Slowest first."""
    groups: dict[str, list[OperatorTime]] = defaultdict(list)
    for time in times:
        groups[time.name].append(time)
    kinds = [KindTime(k, len(g), sum(t.delegated for t in g), sum(t.ms for t in g)) for k, g in groups.items()]
    return sorted(kinds, key=lambda k: -k.ms)


def by_part(times: Sequence[OperatorTime], structure: Structure) -> list[PartTime] | None:
    """In the order of the model; None where operators cannot be told apart."""
    places = parts_of([t.role for t in times], structure)
    if places is None:
        return None
    sums: dict[tuple[Part, int | None], float] = defaultdict(float)
    for place, time in zip(places, times, strict=True):
        sums[place] += time.ms
    return [PartTime(part.value, block, ms) for (part, block), ms in sums.items()]
