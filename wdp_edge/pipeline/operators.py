"""Where the time of an artifact goes, operator by operator, and which parts of the model these are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from wdp_edge.cost.parts import Part, parts_of
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError
from wdp_edge.pipeline.sidecar import read_sidecar
from wdp_edge.results import KindTime, OperatorProfile, OperatorProfiles, PartTime
from wdp_edge.target import OperatorTime, Tracing, get_target

_RUNS = 60


def check_traced(target: str, device: str) -> None:
    """Raises InputError for a device or a target whose runtime tells no times of operators."""
    if device != LocalDevice.name:
        raise InputError(
            f"Operators are timed on this machine only, not on '{device}'.",
            "Leave --per-op out, or time it on local.",
        )
    if not isinstance(get_target(target), Tracing):
        raise InputError(f"The runtime of '{target}' tells no times of operators.", "Leave --per-op out.")


def profile_operators(path: Path, dense: Path | None, threads: int) -> OperatorProfiles:
    """The artifact's operators, and those of the dense one beside it, on this machine."""
    return OperatorProfiles(one(path, threads), one(dense, threads) if dense else None)


def one(path: Path, threads: int) -> OperatorProfile:
    sidecar = read_sidecar(path)
    times = LocalDevice().trace(sidecar.target, path, threads, _RUNS)
    return OperatorProfile(
        path=path,
        ms=sum(t.ms for t in times),
        outside_ms=sum(t.ms for t in times if not t.delegated),
        kinds=by_kind(times),
        parts=by_part(times, sidecar.structure.depth),
    )


def by_kind(times: Sequence[OperatorTime]) -> list[KindTime]:
    """Slowest first."""
    groups: dict[str, list[OperatorTime]] = defaultdict(list)
    for time in times:
        groups[time.name].append(time)
    kinds = [KindTime(k, len(g), sum(t.delegated for t in g), sum(t.ms for t in g)) for k, g in groups.items()]
    return sorted(kinds, key=lambda k: -k.ms)


def by_part(times: Sequence[OperatorTime], depth: int) -> list[PartTime] | None:
    """In the order of the model; None where operators cannot be told apart."""
    places = parts_of([t.role for t in times], depth)
    if places is None:
        return None
    sums: dict[tuple[Part, int | None], float] = defaultdict(float)
    for place, time in zip(places, times, strict=True):
        sums[place] += time.ms
    return [PartTime(part.value, block, ms) for (part, block), ms in sums.items()]
