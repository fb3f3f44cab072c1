"""wdp_edge/report/cautions.py: what has to be read with a figure, and silence where there is nothing."""

from __future__ import annotations

from dataclasses import replace

from fake_verbs import PRUNED

from wdp_edge.protocols.device import Conditions, Latency
from wdp_edge.report.cautions import cautions, device_rows, slowed_down, two_times

PLAIN = Latency(3.9, 4.0, 3.8)


def test_a_figure_without_a_story_has_none() -> None:
    assert cautions(PLAIN) == [] and device_rows(PLAIN.conditions) == [] and slowed_down(None) == ""
    calm = replace(PLAIN, conditions=Conditions((41.0, 41.0), (2400.0, 2400.0)))
    assert cautions(calm) == [] and slowed_down(calm.conditions) == ""


def test_a_device_shows_what_it_does_not_hide() -> None:
    assert device_rows(Conditions((41.04, 44.5))) == [("temperature", "41.0 → 44.5 °C")]
    assert device_rows(Conditions(None, (2400.4, 1500.0))) == [("clock", "2400 → 1500 MHz")]


def test_a_slow_device_and_a_program_of_others_are_told() -> None:
    told = replace(PLAIN, conditions=Conditions(throttled="its clock fell"), caveat="timed by benchmark_model")
    warning, note = cautions(told)
    assert warning.startswith("Warning: ") and "its clock fell" in warning and "cooldown_seconds" in warning
    assert note == "Note: timed by benchmark_model."


def test_two_times_of_one_file_are_explained() -> None:
    latency = replace(PRUNED.shipped.latency_ms, p50=4.05)
    by_rounds = replace(PRUNED.budget, basis="rounds")
    note = two_times(by_rounds, latency).replace("\xa0", " ")
    assert "3.90 ms" in note and "4.05 ms" in note and "interleaved" in note
    assert two_times(PRUNED.budget, latency) == ""
    assert two_times(by_rounds, PRUNED.shipped.latency_ms) == "", "one number needs no reason"
