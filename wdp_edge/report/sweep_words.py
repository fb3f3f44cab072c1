"""The table of a sweep, for the page and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from wdp_edge.protocols.task import facts_of
from wdp_edge.report.units import NONE, milliseconds, points, quantity, share
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.sweeps import SweepEntry, SweepResult


@dataclass(frozen=True)
class SweepRow:
    """A line of the table. error: in place of the figures, where there are none."""

    cells: tuple[str, ...]
    error: str = ""


def header(sweep: SweepResult) -> tuple[str, ...]:
    metric = next((result.metric for result in sweep.results), "")
    return "budget", "latency", "of budget", metric, "change", "as dense", "file size", "blocks"


def dense_ms(sweep: SweepResult) -> float:
    """The dense file's latency: median over the runs."""
    return median(result.dense.latency_ms.p50 for result in sweep.results)


def rows(sweep: SweepResult) -> list[SweepRow]:
    """The dense model, if anything was made of it, and one line for each budget, the fastest first."""
    first = [_dense(sweep)] if sweep.results else []
    return first + [_row(entry) for entry in sweep.entries]


def _dense(sweep: SweepResult) -> SweepRow:
    dense = sweep.results[0].dense
    blocks = str(dense.exit) if dense.exit else NONE
    accuracy = share(dense.accuracy)
    return SweepRow(
        ("dense", milliseconds(dense_ms(sweep)), NONE, accuracy, NONE, NONE, quantity(dense.bytes, "B"), blocks)
    )


def _row(entry: SweepEntry) -> SweepRow:
    result = entry.result
    if result is None:
        return SweepRow((entry.budget,), entry.error)
    shipped, budget = result.shipped, result.budget
    return SweepRow(
        (
            entry.budget,
            milliseconds(budget.measured_ms),
            share(budget.ratio, 1),
            share(shipped.accuracy),
            points(result.dense.accuracy, shipped.accuracy),
            NONE if facts_of(result.task).of_answers else share(shipped.agreement),
            quantity(shipped.bytes, "B"),
            str(shipped.exit) if shipped.exit else NONE,
        )
    )


def verdict(sweep: SweepResult) -> str:
    """How many of the budgets are met."""
    met, count = sum(_kept(result) for result in sweep.results), len(sweep.entries)
    return f"{met} of {count} budgets met"


def _kept(result: PruneResult) -> bool:
    return result.budget.met and result.verified
