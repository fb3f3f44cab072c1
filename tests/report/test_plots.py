"""wdp_edge/report/plots.py: what the pictures of a run show."""

from __future__ import annotations

import re
from functools import partial

import pytest
from report_run import DENSE, HEADS, HIDDEN

from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.report.plots import has_learning, plot_learning, plot_rounds, plot_widths
from wdp_edge.report.record import Widths
from wdp_edge.report.style import inline_svg
from wdp_edge.runs.stages import CurvePoint, Round


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_picture_of_widths_shows_every_block() -> None:
    svg = inline_svg(partial(plot_widths, Widths(DENSE, HEADS, HIDDEN)), "w", "widths")
    shown = texts(svg)
    assert "exit after block 11" in shown
    assert [str(i) for i in range(1, 13)] == [t for t in shown if t.isdigit()][:12]
    for width in HIDDEN:
        assert str(width) in shown
    assert "dropped" in shown
    assert "learned" not in shown


@pytest.mark.parametrize(("depth", "exit"), [(1, 1), (3, 3), (24, 20)])
def test_any_depth_and_exit_are_drawn(depth: int, exit: int) -> None:
    dense = Structure(64, (BlockWidths(4, 16, 256),) * depth)
    widths = Widths(dense, [2] * exit, [64] * exit, [0.5] * depth, [0.25] * depth)
    shown = texts(inline_svg(partial(plot_widths, widths), "w", "widths"))
    assert f"exit after block {exit}{', the last' if exit == depth else ''}" in shown
    assert ("dropped" in shown) == (exit < depth)
    assert shown.count("0") == 2 * (depth - exit)


def test_a_curve_shows_what_it_holds() -> None:
    points = [CurvePoint(i, i * 8, {"loss": 1.0 / (i + 1), "lambda": 3.0}) for i in range(5)]
    shown = texts(inline_svg(partial(plot_learning, points, 2.0), "c", "curve"))
    assert "Loss" in shown
    assert not [t for t in shown if t.startswith(("Cost", "Mean"))]
    assert has_learning(points)
    assert not has_learning(points[:1])
    assert not has_learning([CurvePoint(i, i, {"lr": 1.0}) for i in range(3)])


def test_one_round_with_equal_times_is_drawn() -> None:
    one = Round(predicted_ms=2.0, measured_ms=2.0, dense_ms=2.0, budget_ms=2.0, correction=1.0)
    assert "structure 1" in texts(inline_svg(partial(plot_rounds, [one], 1.0), "r", "rounds"))
