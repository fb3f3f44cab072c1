"""wdp_edge/report/picture.py: the widths of a run as a file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_run import build_run

from wdp_edge.errors import InputError
from wdp_edge.report.picture import main, write_picture
from wdp_edge.report.style import KEPT


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
