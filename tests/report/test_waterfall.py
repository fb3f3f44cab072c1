"""wdp_edge/report/waterfall.py: from the dense file's time to the pruned one's, part by part."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from wdp_edge.report.style import GOOD, SECOND, VARIABLES, inline_svg
from wdp_edge.report.waterfall import describe_waterfall, has_waterfall, plot_waterfall
from wdp_edge.runs.results import OperatorProfile, OperatorProfiles, PartTime


def profile(**ms: float) -> OperatorProfile:
    parts = [PartTime(part.replace("_", " "), None, time) for part, time in ms.items()]
    return OperatorProfile(Path("model.pte"), sum(ms.values()), 0.0, [], parts)


DENSE = profile(attention_qkv=2.0, MLP=4.0, head=0.5)


def drawn(profiles: OperatorProfiles) -> tuple[str, list[str]]:
    svg = inline_svg(partial(plot_waterfall, profiles), "w", describe_waterfall(profiles))
    return svg, [text.replace("\u00a0", " ") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_every_part_of_the_dense_file_is_a_step() -> None:
    profiles = OperatorProfiles(profile(attention_qkv=1.5, MLP=1.0, head=0.5), DENSE)
    svg, shown = drawn(profiles)
    assert shown.count("dense file") == shown.count("pruned file") == 1
    assert {"6.500 ms", "−0.500", "−3.000", "3.000 ms"} < set(shown)
    said = re.search(r'aria-label="([^"]*)"', svg)
    assert said and "MLP from 4.000 ms to 1.000 ms" in said[1].replace("\u00a0", " ")


def test_a_part_that_is_gone_saves_all_and_one_that_grew_has_the_other_colour() -> None:
    svg, shown = drawn(OperatorProfiles(profile(MLP=4.25), DENSE))
    assert {"−2.000", "+0.250", "−0.500", "4.250 ms"} < set(shown)
    bars = re.sub(r'(?s)<g id="w-legend.*', "", svg)
    assert f"var({VARIABLES[SECOND]})" in bars and f"var({VARIABLES[GOOD]})" in bars
    svg, _ = drawn(OperatorProfiles(profile(MLP=4.0), DENSE))
    assert f"var({VARIABLES[SECOND]})" not in re.sub(r'(?s)<g id="w-legend.*', "", svg)


def test_it_needs_the_parts_of_both_files() -> None:
    assert has_waterfall(OperatorProfiles(DENSE, DENSE))
    nothing = OperatorProfile(Path("model.pte"), 1.0, 0.0, [], None)
    for profiles in (None, OperatorProfiles(DENSE, None), OperatorProfiles(DENSE, nothing)):
        assert not has_waterfall(profiles)
    assert not has_waterfall(OperatorProfiles(nothing, DENSE))
