"""The plots of the report: figures in, a matplotlib Figure out; tall rather than wide, for small screens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from wdp_edge.cost.table import LatencyTable
from wdp_edge.report.record import Widths
from wdp_edge.report.style import DENSE, GOOD, INK, KEPT, MUTED, SECOND, TRACK, figure, legend
from wdp_edge.runs.stages import CurvePoint, Measured, Round

_Look = dict[str, Any]  # keyword arguments of matplotlib
_DROPPED: _Look = {"facecolor": TRACK, "edgecolor": DENSE, "hatch": "////", "linewidth": 0}
_LIMIT: _Look = {"color": GOOD, "linewidth": 1.4, "linestyle": (0, (4, 2))}
_BAND: _Look = {"color": GOOD, "alpha": 0.25, "linewidth": 0}
_DOT: _Look = {"linestyle": "none", "marker": "o", "markersize": 5.5}
_PREDICTED: _Look = _DOT | {"color": SECOND, "fillstyle": "none", "markersize": 7, "markeredgewidth": 1.6}
_MEASURED: _Look = _DOT | {"color": KEPT}
_DENSE: _Look = _DOT | {"color": DENSE, "marker": "s"}
_TICK: _Look = {"linestyle": "none", "marker": "|", "markersize": 10, "markeredgewidth": 2}


# ---- widths and exit


def plot_widths(widths: Widths) -> Figure:
    """Per block a bar for heads, one for their channels where these were to choose, and one for hidden units: kept of
    the dense ones; the exit; dropped blocks hatched."""
    depth, last, blocks = widths.dense.depth, widths.exit, widths.dense.blocks
    places = [i + (1.05 if i >= last else 0.0) for i in range(depth)]
    hidden = "Hidden" if widths.head_dims else "Hidden units"
    sides = [
        ("Heads", [b.heads for b in blocks], widths.heads, widths.learned_heads),
        (hidden, [b.hidden for b in blocks], widths.hidden, widths.learned_hidden),
    ]
    if widths.head_dims:
        sides.insert(1, ("Channels", [b.head_dim for b in blocks], widths.head_dims, widths.learned_channels))
    drawn, axes = figure(0.25 * depth + 1.25, 1, len(sides), sharey=True)
    for ax, (title, dense, kept, learned) in zip(axes, sides, strict=True):
        _width_bars(ax, places, dense, kept)
        for place, full, ratio in zip(places, dense, learned, strict=False):
            ax.plot([full * ratio] * 2, [place - 0.42, place + 0.42], color=SECOND, linewidth=2)
        ax.set_title(f"{title}, of {max(dense)}")
        ax.set_xlim(0, max(dense) * (1.15 + 0.15 * len(sides)))
        ax.set_xticks([])
        ax.axhline(last - 0.36, **_LIMIT)
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(length=0)
    label = f"exit after block {last}" if last < depth else f"exit after block {last}, the last"
    axes[0].text(0, last + 0.12, label, color=GOOD, va="center")
    axes[0].set_yticks(places, [str(i + 1) for i in range(depth)])
    axes[0].set_ylim(max(places[-1], last) + 0.55, -0.6)
    axes[0].set_ylabel("block")
    legend(drawn, _width_legend(widths), 4)
    return drawn


def _width_bars(ax: Axes, places: Sequence[float], dense: Sequence[int], kept: Sequence[int]) -> None:
    last = len(kept)
    ax.barh(places[:last], dense[:last], height=0.68, color=TRACK)
    ax.barh(places[:last], kept, height=0.68, color=KEPT)
    ax.barh(places[last:], dense[last:], height=0.68, **_DROPPED)
    for i, (place, full) in enumerate(zip(places, dense, strict=True)):
        ax.text(
            full * 1.04,
            place,
            str(kept[i]) if i < last else "0",
            va="center",
            color=INK if i < last else MUTED,
        )


def _width_legend(widths: Widths) -> list[Artist]:
    handles: list[Artist] = [Patch(color=KEPT, label="kept"), Patch(color=TRACK, label="removed")]
    if widths.exit < widths.dense.depth:
        handles.append(Patch(**_DROPPED, label="dropped"))
    if widths.learned_heads or widths.learned_hidden:
        handles.append(Line2D([], [], color=SECOND, label="learned", **_TICK))
    return handles


# ---- learning and recovery

_LEARNING = (
    ("Loss", ("loss", "distillation")),
    ("Cost of the rounded structure, {unit}", ("cost_ms", "budget_ms")),
    ("Mean keep ratio", ("keep_heads", "keep_hidden", "keep_channels")),
)
_RECOVERY = (
    ("Loss", ("loss", "distillation")),
    ("Distance of block outputs to the dense model’s", ("features",)),
    ("Accuracy on held-back training images, %", ("holdout_accuracy",)),
)
_LABELS = {
    "cost_ms": "cost",
    "budget_ms": "goal at the step",
    "keep_heads": "heads",
    "keep_channels": "channels",
    "keep_hidden": "hidden units",
}


def plot_learning(curve: Sequence[CurvePoint], budget: float, unit: str = "ms") -> Figure:
    """Loss, cost against the budget, and keep ratios over the steps of learning. unit: of the cost."""
    drawn, axes = _curves(curve, [(title.format(unit=unit), values) for title, values in _LEARNING])
    if (cost := axes.get("cost_ms")) is not None:
        cost.axhline(budget, label="budget", **_LIMIT)
        cost.legend(loc="upper right", handlelength=1.5, labelspacing=0.25)
    if (keep := axes.get("keep_heads")) is not None:
        keep.set_ylim(0, 1.05)
    return drawn


def plot_recovery(curve: Sequence[CurvePoint], metric: str = "accuracy") -> Figure:
    """Loss, and the task's metric on held-back training images, over the steps of recovery."""
    name = metric[0].upper() + metric[1:]
    return _curves(curve, [(title.replace("Accuracy", name), values) for title, values in _RECOVERY])[0]


def has_learning(curve: Sequence[CurvePoint]) -> bool:
    """Whether the curve holds what `plot_learning` shows, at more than one step."""
    return len(curve) > 1 and bool(_present(curve, _LEARNING))


def has_recovery(curve: Sequence[CurvePoint]) -> bool:
    """Whether the curve holds what `plot_recovery` shows, at more than one step."""
    return len(curve) > 1 and bool(_present(curve, _RECOVERY))


_Panels = Sequence[tuple[str, tuple[str, ...]]]  # titles, and the names of the values under each


def _present(curve: Sequence[CurvePoint], panels: _Panels) -> _Panels:
    """The panels, and in them the names, that the curve has values for."""
    known = {name for point in curve for name in point.values}
    filled = [(title, tuple(name for name in names if name in known)) for title, names in panels]
    return [(title, names) for title, names in filled if names]


def _curves(curve: Sequence[CurvePoint], panels: _Panels) -> tuple[Figure, dict[str, Axes]]:
    """One panel over the other, on a common axis of steps; the axes by the name of their first value."""
    panels = _present(curve, panels)
    drawn, axes = figure(0.5 + 1.45 * len(panels), len(panels), 1, sharex=True)
    for ax, (title, names) in zip(axes, panels, strict=True):
        scale = 100.0 if title.endswith("%") else 1.0
        for name, colour in zip(names, (KEPT, SECOND, GOOD), strict=False):
            found = [(p.step, p.values[name] * scale) for p in curve if name in p.values]
            xs, ys = [step for step, _ in found], [value for _, value in found]
            marker = "o" if len(found) < 25 else ""
            ax.plot(xs, ys, color=colour, marker=marker, markersize=3, label=_LABELS.get(name, name))
        ax.set_title(title)
        ax.grid(axis="y")
        ax.margins(y=0.12)
        if len(names) > 1:
            ax.legend(ncols=len(names), handlelength=1.2)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return drawn, {names[0]: ax for ax, (_, names) in zip(axes, panels, strict=True)}


# ---- predicted against measured


def plot_rounds(rounds: Sequence[Round], floor: float) -> Figure:
    """Per structure that the loop timed: predicted and measured time, the budget band, the dense model.

    floor: the band is [floor, 1] of the budget. The axis is that of the budget: where the dense model is far
    off, an arrow says so.
    """
    drawn, (ax,) = figure(1.35 + 0.5 * len(rounds))
    near = [t for r in rounds for t in (r.predicted_ms, r.measured_ms, r.budget_ms, floor * r.budget_ms)]
    left, right = _limits(near)
    for place, one in enumerate(rounds, 1):
        span = [place - 0.36, place + 0.36]
        ax.fill_betweenx(span, floor * one.budget_ms, one.budget_ms, **_BAND)
        ax.plot([one.budget_ms] * 2, span, color=GOOD, linewidth=1.4)
        ax.plot([one.predicted_ms, one.measured_ms], [place, place], color=MUTED, linewidth=1)
        ax.plot(one.predicted_ms, place, **_PREDICTED)
        ax.plot(one.measured_ms, place, **_MEASURED)
        if one.dense_ms <= right:
            ax.plot(one.dense_ms, place, **_DENSE)
        else:
            ax.text(right, place, f"dense {one.dense_ms:.3g} →", color=MUTED, ha="right", va="center")
    ax.set_xlim(left, right)
    ax.set_yticks(range(1, len(rounds) + 1), [f"structure {i}" for i in range(1, len(rounds) + 1)])
    ax.set_ylim(len(rounds) + 0.55, 0.45)
    ax.set_xlabel("ms")
    ax.grid(axis="x")
    ax.spines["left"].set_visible(False)
    marks = {"predicted": _PREDICTED, "measured": _MEASURED}
    if any(one.dense_ms <= right for one in rounds):
        marks["dense"] = _DENSE
    handles: list[Artist] = [Line2D([], [], label=name, **look) for name, look in marks.items()]
    legend(drawn, [*handles, Patch(**_BAND, label=f"{floor:.0%}–100% of budget")], 2 if len(marks) > 2 else 3)
    return drawn


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Around the values, with room for marks at the left and for a word at the right."""
    low, high = min(values), max(values)
    room = max(high - low, 0.04 * high)
    return max(0.0, low - 0.2 * room), high + 0.8 * room


def plot_table(table: LatencyTable) -> Figure:
    """The latency table: ms of one attention sub-layer by heads, of one MLP sub-layer by hidden units."""
    drawn, axes = figure(2.5, 1, 2, sharey=True)
    titled = ("Attention, by heads", table.attention), ("MLP, by hidden units", table.mlp)
    for ax, (title, points) in zip(axes, titled, strict=True):
        ax.plot([width for width, _ in points], [ms for _, ms in points], "-o", color=KEPT, markersize=4)
        ax.set_title(title)
        ax.set_xlim(0, points[-1][0] * 1.08)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.grid()
    axes[0].set_ylim(0, 1.1 * max(ms for _, ms in table.attention + table.mlp))
    axes[0].set_ylabel("ms per sub-layer")
    return drawn


# ---- timing rounds


def plot_timing(measured: Measured, budget_ms: float | None) -> Figure:
    """The fastest run of every interleaved round, dense and shipped, each beside the p50 of all runs.

    Both panels span the same shares of their p50, so that a spread looks as wide as it is. budget_ms: None where the
    budget is not one of time.
    """
    drawn, axes = figure(2.9, 2, 1)
    sides = (
        ("Dense", measured.rounds_dense, measured.dense, DENSE),
        ("Shipped", measured.rounds_shipped, measured.shipped, KEPT),
    )
    shares = [t / side.p50 for _, rounds, side, _ in sides for t in (*rounds, side.p90, side.p50)]
    if budget_ms is not None:
        shares.append(budget_ms / measured.shipped.p50)
    low, high = min(shares), max(shares)
    room = 0.08 * max(high - low, 0.02)
    for ax, (title, rounds, side, colour) in zip(axes, sides, strict=True):
        ax.plot(rounds, [_spread(i) for i in range(len(rounds))], color=colour, alpha=0.8, **_DOT)
        ax.axvline(side.p50, color=INK, linewidth=1.8)
        ax.axvline(side.p90, color=MUTED, linewidth=1.2, linestyle=":")
        ax.set_xlim((low - room) * side.p50, (high + room) * side.p50)
        ax.set_ylim(-1, 1)
        ax.set_yticks([])
        ax.set_title(f"{title}, ms")
        ax.grid(axis="x")
        ax.spines["left"].set_visible(False)
    handles = [
        Line2D([], [], label="fastest of a round", color=MUTED, **_DOT),
        Line2D([], [], label="p50", color=INK, linewidth=1.8),
        Line2D([], [], label="p90", color=MUTED, linewidth=1.2, linestyle=":"),
    ]
    if budget_ms is not None:
        axes[1].axvline(budget_ms, **_LIMIT)
        handles.append(Line2D([], [], label="budget", **_LIMIT))
    legend(drawn, handles, 4)
    return drawn


def _spread(index: int) -> float:
    """A fixed vertical offset, so that equal times stay apart."""
    return 1.2 * ((index * 0.618034) % 1.0 - 0.5)
