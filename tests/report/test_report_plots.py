"""The pictures: what they show, how they are put into a page, and the widths as a file of their own."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from report_run import DENSE, HEADS, HIDDEN, build_run

from wdp_edge.errors import InputError
from wdp_edge.report.page import kept_words
from wdp_edge.report.picture import main, write_picture
from wdp_edge.report.pictures import describe_widths
from wdp_edge.report.plots import has_learning, plot_learning, plot_rounds, plot_widths
from wdp_edge.report.record import Widths
from wdp_edge.report.style import GRID, KEPT, TRACK, VARIABLES, inline_svg
from wdp_edge.stages import CurvePoint, Round
from wdp_edge.structure import BlockWidths, Structure


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


def test_colours_follow_the_page_and_nothing_points_outside() -> None:
    widths = Widths(DENSE, HEADS, HIDDEN)
    svg = inline_svg(partial(plot_widths, widths), "w", 'said "so" <b>')
    assert "http" not in svg
    assert not [colour for colour in VARIABLES if colour in svg]
    assert f"var({VARIABLES[KEPT]})" in svg
    assert f"var({VARIABLES[TRACK]})" in svg
    assert 'aria-label="said &quot;so&quot; &lt;b&gt;"' in svg
    assert inline_svg(partial(plot_widths, widths), "w", 'said "so" <b>') == svg


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


def test_grid_colour_is_mapped() -> None:
    points = [CurvePoint(i, i, {"loss": float(i)}) for i in range(3)]
    assert f"var({VARIABLES[GRID]})" in inline_svg(partial(plot_learning, points, 1.0), "c", "curve")


def test_the_widths_can_be_written_as_a_file(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    assert main([str(run), str(tmp_path / "w.png")]) == 0
    assert (tmp_path / "w.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    write_picture(run, tmp_path / "w.svg")
    first = (tmp_path / "w.svg").read_bytes()
    write_picture(run, tmp_path / "w.svg")
    assert (tmp_path / "w.svg").read_bytes() == first
    assert KEPT.encode() in first


def test_a_picture_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = build_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        write_picture(run, tmp_path / "w.gif")
    (run / "stages/dense.json").unlink()
    assert main([str(run), str(tmp_path / "w.png")]) == 2
    assert "finished run" in capsys.readouterr().err
    assert not (tmp_path / "w.png").exists()
    assert main([]) == 2


def test_narrow_heads_are_told() -> None:
    widths = Widths(DENSE, HEADS, HIDDEN, head_dims=[16, 0, *[48] * (len(HEADS) - 2)])
    assert "Heads have 16 to 48 of 64 channels." in kept_words(widths)
    assert "channels" not in kept_words(Widths(DENSE, HEADS, HIDDEN))
    assert "Channels of each head: 16, 0, 48" in describe_widths(widths)
