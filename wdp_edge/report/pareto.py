"""Accuracy against latency, and against what budgets count, of all files of a sweep."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wdp_edge.config.values import Quantity
from wdp_edge.report.style import DENSE, GOOD, INK, KEPT, SECOND, figure, legend
from wdp_edge.report.sweep_words import dense_ms, place_of
from wdp_edge.report.units import milliseconds, share
from wdp_edge.runs.figures import ModelFigures
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.sweeps import SweepResult

_ROOM = 0.12
_SIDES: list[dict[str, Any]] = [{"xytext": (7, -12), "ha": "left"}, {"xytext": (-7, 5), "ha": "right"}]
_LOOKS = [(colour, marker) for marker in "osD" for colour in (KEPT, SECOND, GOOD)]


@dataclass(frozen=True)
class Line:
    """The files of one target and device. name: in words, "" for the only ones. points, dense: (label, place on the
    axis, metric in [0, 1]), the points rising along the axis."""

    name: str
    points: list[tuple[str, float, float]]
    dense: tuple[str, float, float]


def has_pareto(sweep: SweepResult) -> bool:
    """Whether every file has a figure to be drawn at."""
    return all(None not in (result.dense.accuracy, result.shipped.accuracy) for result in sweep.results)


def counted(sweep: SweepResult) -> Quantity | None:
    """What the budgets count; None where they are of time."""
    found = {b.counted.quantity for b in sweep.budgets if b.counted}
    return found.pop() if len(found) == 1 else None


def plotted(sweep: SweepResult, by: Quantity | None = None) -> list[Line]:
    """What is drawn for each target and device that something was made for. by: the axis; latency where it is None."""
    found = []
    for place in sweep.places:
        entries = [(e.budget, e.result) for e in sweep.entries if e.result and e.place == place]
        if entries:
            files = [(budget, _along(r, by), r.shipped.accuracy) for budget, r in entries]
            points = [(budget.partition(" of ")[0], x, value) for budget, x, value in files if value is not None]
            first = entries[0][1].dense
            if first.accuracy is not None:
                x = _millions(first, by) if by else dense_ms(sweep, place)
                found.append(Line(place_of(sweep, place), points, ("dense", x, first.accuracy)))
    return found


def _along(result: PruneResult, by: Quantity | None) -> float:
    return _millions(result.shipped, by) if by else result.time_ms


def _millions(model: ModelFigures, by: Quantity) -> float:
    return (model.macs if by is Quantity.MACS else model.parameters) / 1e6


def plot_pareto(sweep: SweepResult) -> Figure:
    """One dot for each file; a line joins those of a target and device, whose dense file is an open dot. Where budgets
    are counted, once by what they count and once by latency: the two are not in proportion."""
    by = counted(sweep)
    axes = [by, None] if by else [None]
    drawn, places = figure(2.9 * len(axes) + 0.3, len(axes))
    for ax, along in zip(places, axes, strict=True):
        _draw(ax, sweep, along)
    names = [line.name for line in _slowest_first(plotted(sweep))]
    dots = [
        Line2D([], [], label=name or "shipped, by budget", color=colour, marker=marker, linestyle="")
        for name, (colour, marker) in zip(names, itertools.cycle(_LOOKS))
    ]
    legend(drawn, [*dots, Line2D([], [], label="dense", linestyle="", **_dense_look(DENSE, "o"))], 2)
    return drawn


def _slowest_first(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: -line.dense[1])


def _draw(ax: Axes, sweep: SweepResult, by: Quantity | None) -> None:
    """One panel. by: its axis."""
    lines = _slowest_first(plotted(sweep, by))
    every = [point for line in lines for point in (*line.points, line.dense)]
    # Names of neighbouring lines stand on different sides, those of the slowest on the right.
    for line, (colour, marker), side in zip(lines, itertools.cycle(_LOOKS), itertools.cycle(_SIDES)):
        ax.plot([x for _, x, _ in line.points], [100 * v for _, _, v in line.points], color=colour, marker=marker)
        ax.plot(line.dense[1], 100 * line.dense[2], **_dense_look(colour if len(lines) > 1 else DENSE, marker))
        for label, x, value in line.points:
            ax.annotate(label, (x, 100 * value), textcoords="offset points", color=INK, **side)
    values, places = [100 * value for _, _, value in every], [x for _, x, _ in every]
    low, high = min(values), max(values)
    room = max(high - low, 1.0)
    ax.set_ylim(low - 0.25 * room, high + _ROOM * room)
    ax.set_xlim(0, max(places) * (1 + _ROOM))
    ax.set_xlabel(f"{by.words}, millions" if by else "latency, ms")
    ax.set_ylabel(f"{sweep.results[0].metric}, %")
    ax.grid()


def _dense_look(colour: str, marker: str) -> dict[str, Any]:
    return {"color": colour, "marker": marker, "markerfacecolor": "none", "markersize": 7}


def describe_pareto(sweep: SweepResult) -> str:
    """The picture in words."""
    said = []
    for line in plotted(sweep):
        points = [f"{label}: {milliseconds(ms)}, {share(value)}" for label, ms, value in (*line.points, line.dense)]
        said.append(f"{line.name}: {'; '.join(points)}" if line.name else "; ".join(points))
    return ". ".join(said) + "."
