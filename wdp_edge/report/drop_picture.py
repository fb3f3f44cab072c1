"""The picture of what each class loses, or of how many images lose how much."""

from __future__ import annotations

from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from wdp_edge.report.drops import difference, interval
from wdp_edge.report.style import DENSE, INK, KEPT, MUTED, SECOND, figure, legend
from wdp_edge.runs.drops import Drop, Drops, short

_NAMED = 40


def plot_drops(drops: Drops) -> Figure:
    """Classes, worst first, each with its interval: by name where there is room, otherwise as a band over their rank.

    Of images, points lost over the share of images.
    """
    if drops.unit == "image":
        return _plot_images(drops)
    return _plot_named(drops) if len(drops.known) <= _NAMED else _plot_ranked(drops)


def _plot_named(drops: Drops) -> Figure:
    known, expected = drops.known, drops.expected
    drawn, (ax,) = figure(0.2 * len(known) + 1.1)
    for place, part in enumerate(known):
        low, high, points = _ends(part)
        beyond = low > expected or high < expected
        colour = (SECOND if low > expected else KEPT) if beyond else DENSE
        ax.plot([-high, -low], [place, place], color=colour, linewidth=1.6, alpha=0.55)
        ax.plot(-points, place, linestyle="none", marker="o", markersize=4.5, color=colour)
    ax.set_yticks(range(len(known)), [f"{short(part.name, 18)} ({part.images:,})" for part in known])
    ax.set_ylim(len(known) - 0.4, -0.6)
    ax.tick_params(length=0)
    ax.grid(axis="x")
    _finish(drawn, drops, band=False)
    return drawn


def _plot_ranked(drops: Drops) -> Figure:
    known = drops.known
    drawn, (ax,) = figure(4.2)
    ranks = range(1, len(known) + 1)
    ends = [_ends(part) for part in known]
    ax.fill_betweenx(ranks, [-high for _, high, _ in ends], [-low for low, _, _ in ends], color=DENSE, alpha=0.3, lw=0)
    ax.plot([-points for _, _, points in ends], ranks, color=KEPT)
    lose = [(rank, points) for rank, (low, _, points) in zip(ranks, ends, strict=True) if low > drops.expected]
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4, "color": SECOND}
    ax.plot([-points for _, points in lose], [rank for rank, _ in lose], **look)
    ax.set_ylim(len(known) + 0.5, 0.5)
    ax.set_ylabel("classes, worst first")
    ax.grid(axis="x")
    _finish(drawn, drops, band=True)
    return drawn


def _finish(drawn: Figure, drops: Drops, band: bool) -> None:
    (ax,), overall = drawn.axes, drops.overall
    ax.axvline(0, color=INK, linewidth=1)
    if overall.points is not None:
        ax.axvline(-overall.points, color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)))
    ax.set_xlabel("points against the dense model")
    ax.spines["left"].set_visible(False)
    word = "loss beyond chance" if not drops.by_answers else "above average, beyond chance"
    loss = Line2D([], [], linestyle="none", marker="o", markersize=4.5, color=SECOND, label=word)
    every = Line2D([], [], color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)), label="over all")
    shown = (
        Patch(color=DENSE, alpha=0.3, label="95 % intervals")
        if band
        else Line2D([], [], color=DENSE, alpha=0.55, label="95 % interval")
    )
    handles: list[Artist] = [loss, shown, every]
    legend(drawn, handles, 3)


def _plot_images(drops: Drops) -> Figure:
    drawn, (ax,) = figure(2.6)
    ax.plot(range(101), [-points for points in drops.spread], color=KEPT)
    ax.axhline(-(drops.overall.points or 0.0), color=MUTED, linewidth=1.2, linestyle=(0, (4, 2)), label="mean")
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of the images, %")
    ax.set_ylabel("points")
    ax.grid()
    ax.legend(loc="lower left")
    return drawn


def _ends(part: Drop) -> tuple[float, float, float]:
    """low, high, points of a part with images."""
    points = part.points or 0.0
    return (points if part.low is None else part.low), (points if part.high is None else part.high), points


def describe_drops(drops: Drops) -> str:
    said = [f"{short(p.name)} {difference(p)} ({interval(p)})" for p in drops.known[:5]]
    what = "images" if drops.unit == "image" else "classes"
    return f"Difference of {what} to the dense model, with 95 % intervals. Worst: {'; '.join(said)}."
