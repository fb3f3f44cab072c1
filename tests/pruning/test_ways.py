"""What is tried besides the way to prepare images that is set."""

from __future__ import annotations

from dataclasses import replace

from wdp_edge.data.preprocess import Preprocessing, parse_settings
from wdp_edge.pruning.ways import Way, ways_beside

USUAL = Preprocessing((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.9)


def test_each_way_changes_one_thing_and_is_a_setting() -> None:
    ways = ways_beside(Way(USUAL, USUAL))
    assert {way.kinds for way in ways} == {("values",), ("channels",), ("crop",), ("interpolation",)}
    for way in ways:
        assert parse_settings(way.settings) == way.settings
        assert way.preprocessing != USUAL or way.reverse
    crops = [
        way.preprocessing.crop_pct for way in ways if way.kinds == ("crop",) and not way.short.endswith("squashed")
    ]
    assert crops == [1.0, 0.95]  # 0.875 is too near to 0.9


def test_what_timm_does_comes_first_where_something_else_is_set() -> None:
    set_otherwise = replace(USUAL, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop_pct=0.6, interpolation="nearest")
    firsts = {way.kinds[0]: way.short for way in reversed(ways_beside(Way(set_otherwise, USUAL)))}
    assert firsts["values"] == "mean and std of 0.5" and firsts["interpolation"] == "bicubic interpolation"


def test_a_second_change_keeps_the_first() -> None:
    first = next(way for way in ways_beside(Way(USUAL, USUAL)) if way.kinds == ("channels",))
    (second,) = [way for way in ways_beside(first) if way.short == "CLIP's mean and std"]
    assert second.reverse and second.settings["channels"] == "bgr" and len(second.settings["mean"]) == 3
    assert " and CLIP's mean and std instead of mean and std of 0.5" in second.words
    assert all(way.kinds[-1] != "channels" for way in ways_beside(first))


def test_a_model_that_is_said_to_take_bgr_may_take_rgb() -> None:
    (back,) = [way for way in ways_beside(Way(USUAL, USUAL, "bgr")) if way.kinds == ("channels",)]
    assert back.settings == {"channels": "rgb"} and back.reverse
