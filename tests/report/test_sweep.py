"""The page of several budgets: every file in a picture and a table, and the way to each run's own page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_page import Page
from report_run import build_run

from wdp_edge.report import report
from wdp_edge.report.pareto import describe_pareto, plotted
from wdp_edge.report.sweep_words import header, rows
from wdp_edge.runs.stages import RESULT
from wdp_edge.runs.sweeps import Member, read_sweep, write_sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs of which the second is faster and worse, and a budget that nothing fits into."""
    for name, factor, accuracy in (("50pct", 1.0, 0.93), ("30pct", 0.6, 0.88)):
        path = build_run(tmp_path / "all" / name) / RESULT
        result = json.loads(path.read_text())
        for key in ("latency_ms", "measured_ms"):
            result["budget"][key] *= factor
        result["shipped"]["accuracy"] = accuracy
        path.write_text(json.dumps(result))
    members = [Member("50%", "50pct"), Member("30%", "30pct"), Member("2%", "2pct", "<b>too small</b>")]
    write_sweep(tmp_path / "all", "origin", members)
    return tmp_path / "all"


def test_the_page_shows_every_budget(folder: Path) -> None:
    written = report(folder)
    page = written.path.read_text()
    assert written.path == folder / "report.html" and Page(page)
    assert page.index("dense</th>") < page.index("2%</th>") < page.index("30%</th>") < page.index("50%</th>")
    assert "2 of 3 budgets met" in page and "missed" in page
    assert "93.00 %" in page.replace("\u202f", " ").replace("\u00a0", " ") and 'href="50pct/report.html"' in page
    assert "&lt;b&gt;too small" in page and "<b>" not in page and "<script" not in page
    assert (folder / "30pct/report.html").exists()
    assert report(folder).path.read_text() == page, "the same text for the same runs"


def test_runs_beside_the_folder_have_their_links(folder: Path) -> None:
    (folder / "50pct").rename(folder.parent / "vit-50pct")
    (folder / "sweep.json").unlink()
    write_sweep(folder, "origin", [Member("50%", "../vit-50pct")])
    (entry,) = read_sweep(folder).entries
    assert entry.run == folder.parent / "vit-50pct"
    assert 'href="../vit-50pct/report.html"' in report(folder).path.read_text()


def test_without_a_figure_there_is_a_table_and_no_picture(folder: Path) -> None:
    path = folder / "30pct" / RESULT
    result = json.loads(path.read_text())
    result["shipped"]["accuracy"] = None
    path.write_text(json.dumps(result))
    page = report(folder).path.read_text()
    assert "<svg" not in page and "30%</th>" in page


def test_the_picture_has_every_file(folder: Path) -> None:
    sweep = read_sweep(folder)
    (line,) = plotted(sweep)
    assert (line.name, [label for label, _, _ in line.points], line.dense[0]) == ("", ["30%", "50%"], "dense")
    assert "50%: " in describe_pareto(sweep) and "aria-label" in report(folder).path.read_text()


def test_targets_and_devices_have_lines_and_columns_of_their_own(folder: Path) -> None:
    path = folder / "30pct" / RESULT
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"target": "onnx", "device": "ssh:pi"}))
    (folder / "sweep.json").unlink()
    members = [Member("50%", "50pct"), Member("30%", "30pct"), Member("2%", "2pct", "too small", "onnx", "ssh:pi")]
    write_sweep(folder, "origin", members)
    sweep = read_sweep(folder)
    assert header(sweep)[:4] == ("budget", "target", "device", "latency")
    cells = [row.cells[:3] for row in rows(sweep)]
    here, there = sweep.places
    expected = {("dense", *there), ("dense", *here), ("50%", *here), ("30%", *there), ("2%", *there)}
    assert set(cells) == expected and len(cells) == 5
    names = {line.name: [label for label, _, _ in line.points] for line in plotted(sweep)}
    assert names == {"onnx on ssh:pi": ["30%"], f"{here[0]} on {here[1]}": ["50%"]}
    page = report(folder).path.read_text()
    assert Page(page) and "2%, onnx on ssh:pi: too small" in page and page.count('row">dense</th>') == 2
    links = page[page.index("<tbody>") :]
    assert links.count("report</a>") == 2, "a dense model has no page"
