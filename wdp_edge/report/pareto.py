"""Accuracy against latency of all files of a sweep."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wdp_edge.report.style import DENSE, INK, KEPT, figure, legend
from wdp_edge.report.sweep_words import dense_ms
from wdp_edge.report.units import milliseconds, share
from wdp_edge.runs.sweeps import SweepResult

_ROOM = 0.12


def has_pareto(sweep: SweepResult) -> bool:
    """Whether every file has a figure to be drawn at."""
    return all(None not in (result.dense.accuracy, result.shipped.accuracy) for result in sweep.results)


def plotted(sweep: SweepResult) -> list[tuple[str, float, float]]:
    """(label, ms, metric in [0, 1]) of each file, rising in time; the dense one is the last."""
    found = [(e.budget, e.result.budget.measured_ms, e.result.shipped.accuracy) for e in sweep.entries if e.result]
    found.append(("dense", dense_ms(sweep), sweep.results[0].dense.accuracy))
    return [(label, ms, value) for label, ms, value in found if value is not None]


def plot_pareto(sweep: SweepResult) -> Figure:
    """One dot for each file; the line joins those of the budgets."""
    drawn, (ax,) = figure(3.2)
    *budgets, dense = plotted(sweep)
    ax.plot([ms for _, ms, _ in budgets], [100 * v for _, _, v in budgets], "-o", color=KEPT, markersize=6)
    ax.plot(dense[1], 100 * dense[2], "o", color=DENSE, markersize=7)
    for label, ms, value in budgets:
        ax.annotate(label, (ms, 100 * value), (7, -12), textcoords="offset points", color=INK)
    times, values = [ms for _, ms, _ in (*budgets, dense)], [100 * v for _, _, v in (*budgets, dense)]
    low, high = min(values), max(values)
    room = max(high - low, 1.0)
    ax.set_ylim(low - 0.25 * room, high + _ROOM * room)
    ax.set_xlim(0, max(times) * (1 + _ROOM))
    ax.set_xlabel("latency, ms")
    ax.set_ylabel(f"{sweep.results[0].metric}, %")
    ax.grid()
    legend(drawn, [_dot("shipped, by budget", KEPT), _dot("dense", DENSE)], 2)
    return drawn


def _dot(label: str, colour: str) -> Line2D:
    return Line2D([], [], label=label, color=colour, marker="o", linestyle="")


def describe_pareto(sweep: SweepResult) -> str:
    """The picture in words."""
    return "; ".join(f"{label}: {milliseconds(ms)}, {share(value)}" for label, ms, value in plotted(sweep)) + "."
