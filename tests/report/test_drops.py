"""What each class loses, on the page: a table for a few classes, a picture for many, and a word where nothing is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_page import Page, flat
from report_run import build_run, drops, result

from wdp_edge.io.files import write_json
from wdp_edge.report import report
from wdp_edge.report.drops import summary
from wdp_edge.runs.drops import Drops
from wdp_edge.runs.stages import RESULT
from wdp_edge.tasks.by_class import image_drops


def page_of(folder: Path, lost: Drops | None) -> tuple[str, str]:
    """The section as HTML, and the whole page's text."""
    run = build_run(folder / "run")
    write_json(run / RESULT, replace(result(run), drops=lost))
    html = report(run).path.read_text()
    begin = html.index('<section id="who-pays">')
    return html[begin : html.index("</section>", begin)], flat(Page(html).text)


def test_ten_classes_are_a_table_worst_first(tmp_path: Path) -> None:
    lost = drops()
    section, text = page_of(tmp_path, lost)
    assert "<svg" not in section and "<details" not in section
    names = [part.name for part in lost.known]
    places = [section.index(f">{name}</th>") for name in names]
    assert places == sorted(places) and len(places) == 10
    assert all(flat(line) in text for line in summary(lost))
    assert "exact and paired" in text


@pytest.mark.parametrize("count", [11, 41])
def test_more_classes_are_a_picture(count: int, tmp_path: Path) -> None:
    names = ["never <b>seen</b>", *(f"thing {i}" for i in range(1, count))]
    lost = drops(names, 50)
    section, text = page_of(tmp_path, lost)
    assert section.count("<svg ") == 1 and f"Worst of {count - 1} classes: thing" in text
    assert "No validation images: never <b>seen</b>." in text and "<b>" not in section
    assert section.count('<th scope="row"') == 10 + count


def test_images_without_classes_are_a_curve_and_the_worst_of_them(tmp_path: Path) -> None:
    cosines = 1 - np.linspace(0, 0.3, 200)
    section, text = page_of(tmp_path, image_drops(cosines, [f"photos/{i}.jpg" for i in range(200)], "cosine"))
    assert section.count("<svg ") == 1 and "Worst of 200 images: photos/199.jpg, −30.00 points." in text
    assert "half of the images 15.00 points" in text


def test_a_run_of_before_says_that_nothing_was_recorded(tmp_path: Path) -> None:
    section, text = page_of(tmp_path, None)
    assert "did not record what each class loses" in text and "<table" not in section
    assert "drops" not in json.loads((tmp_path / "run" / RESULT).read_text())
