"""The table of a sweep, for the page and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from wdp_edge.protocols.task import facts_of
from wdp_edge.report.units import NONE, milliseconds, points, quantity, share, significant
from wdp_edge.runs.figures import ModelFigures
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.sweeps import SweepEntry, SweepResult

_WIDE = ("images/s", "MACs", "parameters")


@dataclass(frozen=True)
class SweepRow:
    """A line of the table. error: in place of the figures, where there are none. run: that has a page of its own."""

    cells: tuple[str, ...]
    error: str = ""
    run: Path | None = None


def header(sweep: SweepResult, wide: bool = True) -> tuple[str, ...]:
    """wide: with columns that a terminal has no room for."""
    metric = next((result.metric for result in sweep.results), "")
    where = tuple(name for name, shown in zip(("target", "device"), _shown(sweep), strict=True) if shown)
    counts = tuple(_WIDE) if wide else ()
    return "budget", *where, "latency", *counts, "of budget", metric, "change", "as dense", "file size", "blocks"


def dense_ms(sweep: SweepResult, place: tuple[str, str]) -> float:
    """The dense file's latency for a target and a device: median over the runs."""
    return median(e.result.dense.latency_ms.p50 for e in sweep.entries if e.result and e.place == place)


def rows(sweep: SweepResult, wide: bool = True) -> list[SweepRow]:
    """For each target and device the dense model, if anything was made of it, and a line for each budget, the fastest
    first."""
    found = []
    for place in sweep.places:
        entries = [entry for entry in sweep.entries if entry.place == place]
        found += [_dense(sweep, e.result, place, wide) for e in entries if e.result][:1]
        found += [_row(sweep, entry, wide) for entry in entries]
    return found


def place_of(sweep: SweepResult, place: tuple[str, str]) -> str:
    """What tells this target and device from the others, such as "onnx" or "onnx on ssh:pi"; "" for the only ones."""
    return " on ".join(_where(sweep, place))


def name_of(sweep: SweepResult, entry: SweepEntry) -> str:
    """A run among the others: "50%", or "50%, onnx"."""
    return ", ".join(filter(None, [entry.budget, place_of(sweep, entry.place)]))


def _where(sweep: SweepResult, place: tuple[str, str]) -> tuple[str, ...]:
    return tuple(name for name, shown in zip(place, _shown(sweep), strict=True) if shown)


def _shown(sweep: SweepResult) -> tuple[bool, bool]:
    """Whether runs differ in their target, and in their device."""
    targets, devices = zip(*sweep.places, strict=True)
    return len(set(targets)) > 1, len(set(devices)) > 1


def _dense(sweep: SweepResult, result: PruneResult, place: tuple[str, str], wide: bool) -> SweepRow:
    dense, ms = result.dense, dense_ms(sweep, place)
    blocks, size = str(dense.exit) if dense.exit else NONE, quantity(dense.bytes, "B")
    times = milliseconds(ms), *(_counts(dense, ms) if wide else ())
    return SweepRow(("dense", *_where(sweep, place), *times, NONE, share(dense.accuracy), NONE, NONE, size, blocks))


def _counts(model: ModelFigures, ms: float) -> tuple[str, ...]:
    """As in `_WIDE`."""
    return significant(1000.0 / ms), quantity(model.macs), quantity(model.parameters)


def _row(sweep: SweepResult, entry: SweepEntry, wide: bool) -> SweepRow:
    result, where = entry.result, _where(sweep, entry.place)
    if result is None:
        return SweepRow((entry.budget, *where), entry.error)
    shipped, budget = result.shipped, result.budget
    return SweepRow(
        (
            entry.budget,
            *where,
            milliseconds(result.time_ms),
            *(_counts(shipped, result.time_ms) if wide else ()),
            share(budget.ratio, 1),
            share(shipped.accuracy),
            points(result.dense.accuracy, shipped.accuracy),
            NONE if facts_of(result.task).of_answers else share(shipped.agreement),
            quantity(shipped.bytes, "B"),
            str(shipped.exit) if shipped.exit else NONE,
        ),
        run=entry.run,
    )


def title(sweep: SweepResult) -> str:
    """What all files are: "int8-dynamic onnx files, latency measured on local"."""
    first = sweep.results[0]
    precisions, targets, devices = (
        " and ".join(dict.fromkeys(names))
        for names in zip(*((r.precision, r.target, r.device) for r in sweep.results), strict=True)
    )
    return f"{precisions} {targets} files, latency {first.shipped.latency_ms.kind} on {devices}"


def verdict(sweep: SweepResult) -> str:
    """How many of the budgets are met."""
    met, count = sum(_kept(result) for result in sweep.results), len(sweep.entries)
    return f"{met} of {count} budgets met"


def _kept(result: PruneResult) -> bool:
    return result.budget.met and result.verified
