"""wdp_edge/report/parts.py: times of operators as tables, by part of the model and by kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wdp_edge.protocols.device import Kind
from wdp_edge.report.parts import by_part, outside, part_rows
from wdp_edge.runs.results import KindTime, OperatorProfile, OperatorProfiles, PartTime

KINDS = [KindTime("linear", 4, 4, 2.0), KindTime("softmax", 2, 0, 0.5), KindTime("reshape", 9, 0, 0.0001)]
PARTS = [PartTime("MLP", 0, 1.0), PartTime("MLP", 1, 0.5), PartTime("attention qkv", 0, 1.0)]
FILE = OperatorProfile(Path("model.pte"), 2.5, 0.5, KINDS, PARTS)
DENSE = replace(FILE, ms=5.0, parts=[PartTime("MLP", 0, 4.0), PartTime("head", None, 1.0)])


def plain(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(cell.replace("\u00a0", " ") for cell in row) for row in rows]


def test_parts_are_summed_over_the_blocks_in_the_order_of_the_model() -> None:
    assert list(by_part(FILE).items()) == [("attention qkv", 1.0), ("MLP", 1.5)]
    assert by_part(replace(FILE, parts=None)) == {}


def test_a_part_stands_beside_the_dense_files() -> None:
    (_, head, rows), _ = part_rows(OperatorProfiles(FILE, DENSE))
    assert head == ("part", "file", "share", "dense", "change")
    assert plain(rows) == [
        ("attention qkv", "1.000 ms", "40.0 %", "–", "–"),
        ("MLP", "1.500 ms", "60.0 %", "4.000 ms", "−62.5 %"),
        ("all operators", "2.500 ms", "100.0 %", "5.000 ms", "−50.0 %"),
    ]
    (_, head, rows), _ = part_rows(OperatorProfiles(FILE, None))
    assert head == ("part", "file", "share") and {len(row) for row in rows} == {3}


def test_kinds_that_take_no_time_are_left_out_and_parts_that_are_not_known() -> None:
    ((_, head, rows),) = part_rows(OperatorProfiles(replace(FILE, parts=None), None))
    assert head[2] == "in a delegate"
    assert plain(rows) == [("linear", "4", "4", "2.000 ms"), ("softmax", "2", "0", "0.500 ms")]


@pytest.mark.parametrize("kind", [Kind.MEASURED, Kind.ESTIMATED])
def test_an_estimate_says_so(kind: Kind) -> None:
    profile = replace(FILE, kind=kind)
    estimated = kind is Kind.ESTIMATED
    titles = [title for title, _, _ in part_rows(OperatorProfiles(profile, None))]
    assert ["estimate" in title for title in titles] == [estimated] * 2
    assert ("estimated" in outside(profile)) == estimated
    assert ("outside of delegates" in outside(profile)) == (not estimated)
    assert "0.500\u00a0ms of 2.500\u00a0ms" in outside(profile)
