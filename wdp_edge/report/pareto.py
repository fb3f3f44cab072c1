"""Accuracy against latency of all files of a sweep."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wdp_edge.report.style import DENSE, GOOD, INK, KEPT, SECOND, figure, legend
from wdp_edge.report.sweep_words import dense_ms, place_of
from wdp_edge.report.units import milliseconds, share
from wdp_edge.runs.sweeps import SweepResult

_ROOM = 0.12
_SIDES: list[dict[str, Any]] = [{"xytext": (7, -12), "ha": "left"}, {"xytext": (-7, 5), "ha": "right"}]
_LOOKS = [(colour, marker) for marker in "osD" for colour in (KEPT, SECOND, GOOD)]


@dataclass(frozen=True)
class Line:
    """The files of one target and device. name: in words, "" for the only ones. points, dense: (label, ms, metric in
    [0, 1]), the points rising in time."""

    name: str
    points: list[tuple[str, float, float]]
    dense: tuple[str, float, float]


def has_pareto(sweep: SweepResult) -> bool:
    """Whether every file has a figure to be drawn at."""
    return all(None not in (result.dense.accuracy, result.shipped.accuracy) for result in sweep.results)


def plotted(sweep: SweepResult) -> list[Line]:
    """What is drawn for each target and device that something was made for."""
    found = []
    for place in sweep.places:
        entries = [(e.budget, e.result) for e in sweep.entries if e.result and e.place == place]
        if entries:
            files = [(budget, r.budget.measured_ms, r.shipped.accuracy) for budget, r in entries]
            points = [(budget, ms, value) for budget, ms, value in files if value is not None]
            if (value := entries[0][1].dense.accuracy) is not None:
                found.append(Line(place_of(sweep, place), points, ("dense", dense_ms(sweep, place), value)))
    return found


def plot_pareto(sweep: SweepResult) -> Figure:
    """One dot for each file; a line joins those of a target and device, whose dense file is an open dot."""
    drawn, (ax,) = figure(3.2)
    lines = sorted(plotted(sweep), key=lambda line: -line.dense[1])
    every = [point for line in lines for point in (*line.points, line.dense)]
    # Names of neighbouring lines stand on different sides, those of the slowest on the right.
    for line, (colour, marker), side in zip(lines, itertools.cycle(_LOOKS), itertools.cycle(_SIDES)):
        ax.plot([ms for _, ms, _ in line.points], [100 * v for _, _, v in line.points], color=colour, marker=marker)
        ax.plot(line.dense[1], 100 * line.dense[2], **_dense_look(colour if len(lines) > 1 else DENSE, marker))
        for label, ms, value in line.points:
            ax.annotate(label, (ms, 100 * value), textcoords="offset points", color=INK, **side)
    values, times = [100 * value for _, _, value in every], [ms for _, ms, _ in every]
    low, high = min(values), max(values)
    room = max(high - low, 1.0)
    ax.set_ylim(low - 0.25 * room, high + _ROOM * room)
    ax.set_xlim(0, max(times) * (1 + _ROOM))
    ax.set_xlabel("latency, ms")
    ax.set_ylabel(f"{sweep.results[0].metric}, %")
    ax.grid()
    dots = [
        Line2D([], [], label=line.name or "shipped, by budget", color=colour, marker=marker, linestyle="")
        for line, (colour, marker) in zip(lines, itertools.cycle(_LOOKS))
    ]
    legend(drawn, [*dots, Line2D([], [], label="dense", linestyle="", **_dense_look(DENSE, "o"))], 2)
    return drawn


def _dense_look(colour: str, marker: str) -> dict[str, Any]:
    return {"color": colour, "marker": marker, "markerfacecolor": "none", "markersize": 7}


def describe_pareto(sweep: SweepResult) -> str:
    """The picture in words."""
    said = []
    for line in plotted(sweep):
        points = [f"{label}: {milliseconds(ms)}, {share(value)}" for label, ms, value in (*line.points, line.dense)]
        said.append(f"{line.name}: {'; '.join(points)}" if line.name else "; ".join(points))
    return ". ".join(said) + "."
