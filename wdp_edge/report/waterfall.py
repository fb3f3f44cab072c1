"""The picture of where the time went: from the dense file's time to the pruned one's, part by part."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wdp_edge.report.parts import by_part, micro
from wdp_edge.report.style import DENSE, GOOD, KEPT, MUTED, SECOND, figure
from wdp_edge.runs.results import OperatorProfiles

_WHOLE = 0.62


def has_waterfall(profiles: OperatorProfiles | None) -> bool:
    """Whether both files' operators are there, and known by part."""
    return profiles is not None and bool(profiles.file.parts) and bool(profiles.dense and profiles.dense.parts)


def plot_waterfall(profiles: OperatorProfiles) -> Figure:
    """A bar for the dense file, one for what each part saves (or costs), one for the pruned file. Times in ms."""
    assert profiles.dense is not None
    before, after = by_part(profiles.dense), by_part(profiles.file)
    drawn, (ax,) = figure(0.33 * (len(before) + 2) + 0.9)
    level = sum(before.values())
    bars = [("dense file", 0.0, level, DENSE, micro(level))]
    for part, ms in before.items():
        step = after.get(part, 0.0) - ms
        colour = GOOD if step <= 0 else SECOND
        bars.append((part, min(level, level + step), abs(step), colour, f"{step:+.3f}".replace("-", "−")))
        level += step
    bars.append(("pruned file", 0.0, level, KEPT, micro(level)))
    longest = sum(before.values())
    for place, (_, left, width, colour, text) in enumerate(bars):
        ax.barh(place, width, left=left, height=_WHOLE, color=colour)
        ax.text(left + width + 0.015 * longest, place, text, va="center", color=MUTED)
    ax.set_yticks(range(len(bars)), [bar[0] for bar in bars])
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.set_xlim(0, 1.22 * longest)
    ax.set_xlabel("ms, all operators together")
    ax.spines["left"].set_visible(False)
    ax.tick_params(length=0)
    drawn.legend(
        handles=[Patch(color=GOOD, label="saved"), Patch(color=SECOND, label="added")],
        loc="outside lower left",
        ncols=2,
    )
    return drawn


def describe_waterfall(profiles: OperatorProfiles) -> str:
    assert profiles.dense is not None
    before, after = by_part(profiles.dense), by_part(profiles.file)
    said = (f"{part} from {micro(ms)} to {micro(after.get(part, 0.0))}" for part, ms in before.items())
    return f"Time of all operators by part of the model: {'; '.join(said)}."
