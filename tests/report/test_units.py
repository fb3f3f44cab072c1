"""wdp_edge/report/units.py: numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.report import units
from wdp_edge.runs.results import Limit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.0123"),
        (0.1, "0.100"),
        (2.087, "2.09"),
        (9.996, "10.0"),
        (28.44, "28.4"),
        (1234, "1234"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert units.significant(value) == text


@given(st.floats(1e-6, 1e6))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert float(units.significant(value)) == pytest.approx(value, rel=0.0051)
    assert "e" not in units.significant(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.quantity(21_479_050), "21.5 M"),
        (units.quantity(22_753_064, "B"), "22.8 MB"),
        (units.quantity(999, "B"), "999 B"),
        (units.quantity(4_600_000_000), "4.60 G"),
        (units.share(0.9165), "91.65 %"),
        (units.share(None), "–"),
        (units.points(0.9165, 0.9082), "−0.83 points"),
        (units.points(0.9, 0.9), "0.00 points"),
        (units.points(None, 0.9), "–"),
        (units.change(4.0, 2.0), "−50.0 %"),
        (units.change(2.0, 2.5), "+25.0 %"),
        (units.change(0, 1), "–"),
        (units.duration(4.24), "4.2 s"),
        (units.duration(59.7), "1 min 0 s"),
        (units.duration(7322), "2 h 2 min"),
        (units.error(4.1e-6), "4.1e-6"),
        (units.error(0.0), "0.0e0"),
        (units.moment("2026-11-23T10:04:12.5+00:00"), "2026-11-23 10:04:12+00:00"),
        (units.moment("yesterday"), "yesterday"),
        (units.moment(""), "–"),
        (units.joined([6, 5, 5, 5, 3, 5]), "6, 5×3, 3, 5"),
        (units.joined([]), ""),
        (units.against(Limit("latency", 4.1, 3.9, "ms", True)), "3.90 ms of 4.10 ms"),
        (units.against(Limit("size", 6e6, 7e6, "bytes", False)), "7.00 MB of 6.00 MB"),
        (units.against(Limit("accuracy_drop", 1.0, 0.25, "points", True)), "0.25 of 1.00 points"),
    ],
)
def test_writing(text: str, expected: str) -> None:
    assert text.replace(units.SPACE, " ") == expected


@given(st.lists(st.integers(1, 4)))
def test_joined_widths_can_be_read_back(widths: list[int]) -> None:
    parts = [p.partition("×") for p in units.joined(widths).split(", ") if p]
    assert [int(w) for w, _, n in parts for _ in range(int(n or 1))] == widths
