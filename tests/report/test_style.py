"""wdp_edge/report/style.py: a figure as an <svg> of the page."""

from __future__ import annotations

import re
from functools import partial

from matplotlib.figure import Figure
from report_run import DENSE, HEADS, HIDDEN

from wdp_edge.report.plots import plot_learning, plot_widths
from wdp_edge.report.record import Widths
from wdp_edge.report.style import GRID, KEPT, TRACK, VARIABLES, figure, inline_svg
from wdp_edge.runs.stages import CurvePoint


def test_colours_follow_the_page_and_nothing_points_outside() -> None:
    widths = Widths(DENSE, HEADS, HIDDEN)
    svg = inline_svg(partial(plot_widths, widths), "w", 'said "so" <b>')
    assert "http" not in svg
    assert not [colour for colour in VARIABLES if colour in svg]
    assert f"var({VARIABLES[KEPT]})" in svg
    assert f"var({VARIABLES[TRACK]})" in svg
    assert 'aria-label="said &quot;so&quot; &lt;b&gt;"' in svg
    assert inline_svg(partial(plot_widths, widths), "w", 'said "so" <b>') == svg


def test_grid_colour_is_mapped() -> None:
    points = [CurvePoint(i, i, {"loss": float(i)}) for i in range(3)]
    assert f"var({VARIABLES[GRID]})" in inline_svg(partial(plot_learning, points, 1.0), "c", "curve")


def test_two_pictures_of_a_page_share_no_id() -> None:
    def plot() -> Figure:
        drawn, (ax,) = figure(1.0)
        ax.plot([0, 1], [0, 1], marker="o")
        return drawn

    one, two = (set(re.findall(r'\bid="([^"]+)"', inline_svg(plot, name, ""))) for name in ("one", "two"))
    assert one and not one & two and all(name.startswith("one-") for name in one)
