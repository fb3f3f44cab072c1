"""Times of operators, as tables: by part of the model, and by kind of operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from wdp_edge.cost.parts import Part
from wdp_edge.protocols.device import Kind
from wdp_edge.report.units import NONE, SPACE, change, share
from wdp_edge.runs.results import OperatorProfile, OperatorProfiles

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
_KINDS_SHOWN = 12
_LEAST = 0.0005


def micro(ms: float) -> str:
    """Milliseconds to the microsecond, which is what the runtimes' clocks count."""
    return f"{ms:.3f}{SPACE}ms"


def by_part(profile: OperatorProfile) -> dict[str, float]:
    """Milliseconds of each part over all blocks, in the order of the model; {} where the parts are not known."""
    sums: dict[str, float] = defaultdict(float)
    for time in profile.parts or ():
        sums[time.part] += time.ms
    return {part.value: sums[part.value] for part in Part if part.value in sums}


def part_rows(profiles: OperatorProfiles) -> list[Table]:
    """The tables of a profile: title, head, rows. Parts beside the dense file's where there is one, then kinds."""
    return [t for t in (parts_table(profiles), kinds_table(profiles.file)) if t[2]]


def parts_table(profiles: OperatorProfiles) -> Table:
    file, dense = by_part(profiles.file), by_part(profiles.dense) if profiles.dense else {}
    rows = [(part, *columns(part, file, dense)) for part in file]
    if rows:
        rows.append(("all operators", *total(profiles)))
    head = ("part", "file", "share", "dense", "change") if dense else ("part", "file", "share")
    return f"Where the time goes{by_estimate(profiles.file)}", head, [row[: len(head)] for row in rows]


def columns(part: str, file: dict[str, float], dense: dict[str, float]) -> Sequence[str]:
    whole, before = sum(file.values()), dense.get(part)
    known = (micro(before), change(before, file[part])) if before else (NONE, NONE)
    return micro(file[part]), share(file[part] / whole, 1), *known


def total(profiles: OperatorProfiles) -> Sequence[str]:
    ms, before = profiles.file.ms, profiles.dense.ms if profiles.dense else 0.0
    return micro(ms), share(1.0, 1), micro(before), change(before, ms)


def kinds_table(profile: OperatorProfile) -> Table:
    """The slowest kinds of operators."""
    slowest = [k for k in profile.kinds[:_KINDS_SHOWN] if k.ms > _LEAST]
    rows: list[tuple[str, ...]] = [(k.kind, str(k.count), str(k.delegated), micro(k.ms)) for k in slowest]
    place = "off the CPU" if profile.kind is Kind.ESTIMATED else "in a delegate"
    return f"Slowest operators of the file{by_estimate(profile)}", ("operator", "count", place, "together"), rows


def by_estimate(profile: OperatorProfile) -> str:
    """For the end of a title."""
    return ", by Core ML’s estimate" if profile.kind is Kind.ESTIMATED else ""


def outside(profile: OperatorProfile) -> str:
    """What the runtime's delegates, or Core ML's other compute units, leave."""
    figures = f"{micro(profile.outside_ms)} of {micro(profile.ms)}"
    if profile.kind is Kind.ESTIMATED:
        return f"{figures} on the CPU. Predictions were timed; the operators’ shares of them are estimated."
    return f"{figures} outside of delegates."
