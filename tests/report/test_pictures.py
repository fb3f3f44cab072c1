"""wdp_edge/report/pictures.py: which pictures a report has, and what they say to those who do not see them."""

from __future__ import annotations

from pathlib import Path

from report_run import DENSE, HEADS, HIDDEN, build_run, measured, recovered, selected

from wdp_edge.report.page import kept_words
from wdp_edge.report.pictures import describe_curve, describe_rounds, describe_timing, describe_widths, pictures
from wdp_edge.report.record import Widths, read_record


def test_a_stage_that_is_missing_takes_its_picture_along(tmp_path: Path) -> None:
    run = build_run(tmp_path / "run")
    for stage in ("learn", "select", "recover", "measure"):
        (run / "stages" / f"{stage}.json").unlink()
    assert set(pictures(read_record(run))) == {"table"}


def test_every_number_of_a_picture_is_in_its_words() -> None:
    said = describe_widths(Widths(DENSE, HEADS, HIDDEN))
    assert all(str(width) in said for width in (*HEADS, *HIDDEN)) and "block 11 of 12" in said
    curve = recovered().curve
    first, last = curve[0].values["loss"], curve[-1].values["loss"]
    said = describe_curve("Recovery", curve)
    assert f"step {curve[-1].step}" in said and f"loss from {first:.3g} to {last:.3g}" in said
    said = describe_rounds(selected().rounds).replace("\u00a0", " ")
    assert "structure 2: 2.08 ms predicted, 2.09 ms measured" in said and "sessions" not in said
    said = describe_timing(measured()).replace("\u00a0", " ")
    assert "12 interleaved rounds" in said and "shipped p50 2.09 ms" in said and "budget 2.14 ms" in said


def test_narrow_heads_are_told() -> None:
    widths = Widths(DENSE, HEADS, HIDDEN, head_dims=[16, 0, *[48] * (len(HEADS) - 2)])
    assert "Heads have 16 to 48 of 64 channels." in kept_words(widths)
    assert "channels" not in kept_words(Widths(DENSE, HEADS, HIDDEN))
    assert "Channels of each head: 16, 0, 48" in describe_widths(widths)
