"""Which pictures a run's report has, and what each says to those who cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from markupsafe import Markup
from matplotlib.figure import Figure

from wdp_edge.report import plots
from wdp_edge.report.drop_picture import describe_drops, plot_drops
from wdp_edge.report.drops import many
from wdp_edge.report.record import Record, Widths
from wdp_edge.report.style import inline_svg
from wdp_edge.report.units import milliseconds
from wdp_edge.report.waterfall import describe_waterfall, has_waterfall, plot_waterfall
from wdp_edge.runs.stages import CurvePoint, Measured, Round


def pictures(record: Record) -> dict[str, Markup]:
    """Inline SVGs by name. A picture whose stage is missing, or has nothing to show, is missing."""
    found: dict[str, Markup] = {}

    def add(name: str, plot: Callable[[], Figure], description: str) -> None:
        found[name] = Markup(inline_svg(plot, f"wdp-{name}", description))

    if (widths := record.widths) is not None:
        add("widths", partial(plots.plot_widths, widths), describe_widths(widths))
    if (learned := record.learned) and plots.has_learning(learned.curve):
        text = describe_curve("Learning", learned.curve)
        unit = record.table.unit if record.table else "ms"
        add("learning", partial(plots.plot_learning, learned.curve, learned.budget_ms, unit), text)
    if (recovered := record.recovered) and plots.has_recovery(recovered.curve):
        metric = recovered.metric or record.result.metric
        text = describe_curve("Recovery", recovered.curve, metric)
        add("recovery", partial(plots.plot_recovery, recovered.curve, metric), text)
    if (selected := record.selected) and selected.rounds:
        text = describe_rounds(selected.rounds)
        add("rounds", partial(plots.plot_rounds, selected.rounds, record.recipe.prune.select.floor), text)
    if (table := record.table) is not None and table.unit == "ms":
        text = "Latency of one attention sub-layer by heads and of one MLP sub-layer by hidden units."
        add("table", partial(plots.plot_table, table), text)
    if (measured := record.measured) is not None:
        budget_ms = None if record.result.budget.counted else measured.budget_ms
        add("timing", partial(plots.plot_timing, measured, budget_ms), describe_timing(measured))
    if (drops := record.result.drops) is not None and many(drops):
        add("drops", partial(plot_drops, drops), describe_drops(drops))
    if (operators := record.operators) is not None and has_waterfall(operators):
        add("waterfall", partial(plot_waterfall, operators), describe_waterfall(operators))
    return found


def describe_widths(widths: Widths) -> str:
    channels = f"Channels of each head: {', '.join(map(str, widths.head_dims))}. " if widths.head_dims else ""
    return (
        f"Widths per block. Heads kept: {', '.join(map(str, widths.heads))}. "
        f"{channels}Hidden units kept: {', '.join(map(str, widths.hidden))}. "
        f"Exit after block {widths.exit} of {widths.dense.depth}."
    )


def describe_curve(title: str, curve: Sequence[CurvePoint], metric: str = "accuracy") -> str:
    """metric: what the curve's `accuracy` is."""
    first, last = curve[0].values, curve[-1].values
    said = [
        f"{n.replace('_', ' ').replace('accuracy', metric)} from {first[n]:.3g} to {last[n]:.3g}"
        for n in first
        if n in last
    ]
    return f"{title} up to step {curve[-1].step}: {', '.join(said)}."


def describe_rounds(rounds: Sequence[Round]) -> str:
    said = (
        f"structure {i}: {milliseconds(r.predicted_ms)} predicted, {milliseconds(r.measured_ms)} measured"
        + f" in {r.sessions} sessions" * (r.sessions > 1)
        for i, r in enumerate(rounds, 1)
    )
    return f"Structures that were timed, predicted and measured latency. {'; '.join(said)}."


def describe_timing(measured: Measured) -> str:
    return (
        f"The fastest run of each of {len(measured.rounds_dense)} interleaved rounds: "
        f"dense p50 {milliseconds(measured.dense.p50)}, shipped p50 {milliseconds(measured.shipped.p50)}, "
        f"budget {milliseconds(measured.budget_ms)}."
    )
