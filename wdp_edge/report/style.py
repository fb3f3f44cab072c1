"""How the plots look, and a figure as SVG to put into a page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wdp_edge.io.files import atomic_path

INK = "#1f2429"
MUTED = "#5f6872"
GRID = "#dde2e7"
TRACK = "#e6eaee"
DENSE = "#7d8893"
KEPT = "#1f6fd1"
SECOND = "#c2570c"
GOOD = "#16793a"

# In a page the colours are CSS variables, so that they follow its light or dark scheme.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    TRACK: "--track",
    DENSE: "--dense",
    KEPT: "--kept",
    SECOND: "--second",
    GOOD: "--good",
}

# Inches. Drawn for a phone's width, where one point is about one CSS pixel: text stays readable there.
WIDTH = 4.4

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "white",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "hatch.color": DENSE,
    "hatch.linewidth": 1.0,
}


def figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """An empty figure of the page's width and `height` inches, and its axes row by row."""
    made = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False, **options)
    return made, [ax for row in axes for ax in row]


def legend(drawn: Figure, handles: Sequence[Artist], columns: int) -> None:
    """Under the plot, where it covers nothing on a narrow screen."""
    look: dict[str, Any] = {"handlelength": 1.3, "columnspacing": 1.2, "handletextpad": 0.5}
    drawn.legend(handles=handles, loc="outside lower left", ncols=columns, **look)


def inline_svg(plot: Callable[[], Figure], name: str, description: str) -> str:
    """The plot as an `<svg>` element: same text for same figure, no links, ids prefixed with `name`.

    description: what the picture says, for those who cannot see it.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name, "figure.facecolor": "none"}):
        plot().savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _embed(buffer.getvalue(), name, description)


def save(plot: Callable[[], Figure], path: Path) -> None:
    """The plot as a file of its own, .png (for screens with two pixels per point) or .svg, atomically."""
    form = path.suffix.lower().removeprefix(".")
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": path.stem}), atomic_path(path) as temporary:
        plot().savefig(temporary, format=form, dpi=180, metadata={"Date": None} if form == "svg" else None)


def _embed(svg: str, name: str, description: str) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, body = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"\n\s*", "\n", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    label = escape(description, quote=True)
    return f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{label}">{body.rstrip()}'
