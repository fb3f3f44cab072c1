"""Cells as tables and as a picture of accuracy against measured latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, pstdev

from matplotlib.figure import Figure

from arena.cells import Cell
from arena.methods import CONTROL, DENSE, OURS, PEERS
from arena.origin import common

INK, MUTED, GRID = "#1f2429", "#5f6872", "#dde2e7"
COLOURS = (
    "#c2570c",
    "#2f4f9f",
    "#16793a",
    "#7d3ac1",
    "#b8860b",
    "#0f8a8a",
    "#a02050",
    "#5f6872",
    "#8a5a2b",
    "#e377c2",
    "#101418",
    "#17becf",
)
OWN = "#1f6fd1"
POINT = 100.0


def reference(cells: Sequence[Cell]) -> float:
    """The better of dense and control: what losses are counted from."""
    return max(c.accuracy for c in cells if c.method in (DENSE, CONTROL))


def of_variant(cells: Sequence[Cell], trained: bool, compensated: bool) -> list[Cell]:
    """Peers' cells of this variant, and ours, which is always compensated."""
    return [
        c
        for c in cells
        if c.method in (*PEERS, OURS)
        and (c.images > 0) == trained
        and (c.compensated == compensated or c.method == OURS)
    ]


def table(cells: Sequence[Cell], best: float, methods: Sequence[str] = (*PEERS, OURS)) -> str:
    """Markdown: one row per method, per share accuracy, loss and what the file takes; means over seeds."""
    shares = sorted({c.share for c in cells}, reverse=True)
    lines = ["| method | " + " | ".join(f"{s:.0%}: accuracy | loss | time | MACs" for s in shares) + " |"]
    lines.append("| --- |" + " --- | --- | --- | --- |" * len(shares))
    for method in methods:
        row = [[c for c in cells if c.method == method and c.share == share] for share in shares]
        if any(row):
            lines.append(f"| {method} | " + " | ".join(entry(found, best) for found in row) + " |")
    return "\n".join(lines)


def entry(cells: Sequence[Cell], best: float) -> str:
    if not cells:
        return "– | – | – | –"
    accuracies = [POINT * c.accuracy for c in cells]
    spread = f" ± {pstdev(accuracies):.2f}" if len(cells) > 1 else ""
    time = mean(c.timed if c.timed is not None else c.made for c in cells)
    macs = mean(c.macs for c in cells) / 1e6
    return f"{mean(accuracies):.2f}{spread} % | {POINT * best - mean(accuracies):.2f} | {time:.1%} | {macs:.0f} M"


def tables(cells: Sequence[Cell], ablations: Sequence[str]) -> str:
    """All tables under headings, as far as there are cells for them."""
    best = reference(cells)
    dense = next(c for c in cells if c.method == DENSE)
    controls = [c for c in cells if c.method == CONTROL]
    origin = common(cells)
    parts = [f"Made by code {origin.code} with recipe {origin.recipe}."]
    parts.append(f"Dense: {dense.accuracy:.2%} of the test images.")
    if controls:
        parts[-1] += (
            f" Control: {controls[0].accuracy:.2%} after {controls[0].images} images. Losses are against the better."
        )
    for title, trained, compensated in (
        ("As they come, with the common recovery", True, False),
        ("The peers' structures with our compensation, and the common recovery", True, True),
        ("As they come, no training", False, False),
        ("The peers' structures with our compensation, no training", False, True),
    ):
        chosen = of_variant(cells, trained, compensated)
        if any(c.method != OURS for c in chosen):
            parts.append(f"### {title}\n\n{table(chosen, best)}")
    if chosen := [c for c in cells if c.method in ablations]:
        shares = {c.share for c in chosen}
        whole = [c for c in cells if c.method == OURS and c.share in shares and c.images in {a.images for a in chosen}]
        parts.append(f"### One part off at a time\n\n{table([*whole, *chosen], best, (OURS, *ablations))}")
    if took := [c for c in cells if c.steps]:
        parts.append(f"### What each method was trained with\n\n{effort(took)}")
    return "\n\n".join(parts)


def effort(cells: Sequence[Cell]) -> str:
    """Markdown: images, optimiser steps of search and recovery, learning rate and weight of block outputs."""
    lines = ["| method | images | steps | learning rate | block outputs |", "| --- | ---: | ---: | ---: | ---: |"]
    rows = sorted({(c.method, c.images, c.steps, c.lr, c.features) for c in cells})
    lines += [f"| {name} | {images:,} | {steps:,} | {lr:g} | {own:g} |" for name, images, steps, lr, own in rows]
    return "\n".join(lines)


def means(cells: Sequence[Cell]) -> list[tuple[float, float]]:
    """(time as a share, accuracy in %) per share of the dense latency, over its seeds; rising in time."""
    by_share = [[c for c in cells if c.share == share] for share in {c.share for c in cells}]
    return sorted((mean(c.timed or c.made for c in some), POINT * mean(c.accuracy for c in some)) for some in by_share)


def picture(cells: Sequence[Cell], path: Path) -> None:
    """Accuracy against measured latency: with training on the left, without on the right."""
    drawn = Figure(figsize=(9.0, 4.6), layout="constrained")
    axes = drawn.subplots(1, 2)
    best = POINT * reference(cells)
    for ax, trained, title in zip(axes, (True, False), ("With the common recovery", "No training"), strict=True):
        chosen = of_variant(cells, trained, False)
        ax.axhline(best, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        for method, colour in zip((*PEERS, OURS), (*COLOURS, OWN), strict=True):
            points = means([c for c in chosen if c.method == method])
            if points:
                own = {"linewidth": 2.4, "zorder": 3} if method == OURS else {"linewidth": 1.2}
                xs, ys = zip(*points, strict=True)
                name = "wdp-edge" if method == OURS else method
                ax.plot([POINT * x for x in xs], ys, marker="o", markersize=4, color=colour, label=name, **own)
        ax.set_title(title, loc="left", color=INK, fontsize=11)
        ax.set_xlabel("latency, % of the dense file", color=MUTED)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color=GRID)
    axes[0].set_ylabel("accuracy on the test images, %", color=MUTED)
    handles, labels = axes[0].get_legend_handles_labels()
    if not handles:
        handles, labels = axes[1].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=130)


def lines_picture(found: Mapping[str, Sequence[Cell]], methods: Sequence[str], path: Path) -> None:
    """One plot per name in `found`, one line per method: accuracy against measured latency."""
    drawn = Figure(figsize=(4.5 * len(found), 4.0), layout="constrained")
    axes = drawn.subplots(1, len(found), squeeze=False)[0]
    for ax, (title, cells) in zip(axes, found.items(), strict=True):
        ax.axhline(POINT * reference(cells), color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
        for method, colour in zip(methods, (COLOURS[0], COLOURS[1], OWN), strict=True):
            points = sorted((POINT * (c.timed or c.made), POINT * c.accuracy) for c in cells if c.method == method)
            ax.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=method)
        ax.set_title(title, loc="left", color=INK, fontsize=11)
        ax.set_xlabel("latency, % of the dense file", color=MUTED)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color=GRID)
    axes[0].set_ylabel("accuracy on the test images, %", color=MUTED)
    axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=130)
