"""wdp_edge/report/drop_picture.py: what each class, or each share of the images, loses."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
from report_run import drops

from wdp_edge.report.drop_picture import describe_drops, plot_drops
from wdp_edge.report.style import inline_svg
from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import image_drops


def texts(lost: Drops) -> list[str]:
    svg = inline_svg(partial(plot_drops, lost), "drops", "drops")
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_forty_classes_have_names_and_more_have_ranks() -> None:
    names = [f"thing {i}" for i in range(41)]
    named, ranked = (drops(names[:count], 50) for count in (40, 41))
    assert len(named.known) == 39 and len(ranked.known) == 40, "the first has no images"
    assert texts(named).count("thing 39 (50)") == 1 and "95 % interval" in texts(named)
    more = drops([*names, "thing 41"], 50)
    shown = texts(more)
    assert "classes, worst first" in shown and "95 % intervals" in shown
    assert not [text for text in shown if text.startswith("thing")]


def test_images_are_drawn_over_their_share() -> None:
    lost = image_drops(1 - np.linspace(0, 0.3, 200), [f"photos/{i}.jpg" for i in range(200)], "cosine")
    assert "share of the images, %" in texts(lost)
    said = describe_drops(lost)
    assert "images" in said and "photos/199.jpg −30.00" in said


def test_the_words_name_the_five_worst() -> None:
    lost = drops()
    said = describe_drops(lost)
    assert [part.name in said for part in lost.known] == [True] * 5 + [False] * 5
