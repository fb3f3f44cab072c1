"""wdp_edge/devices/reference.py: the fixed input, and what counts as the same result."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from wdp_edge.devices.events import OutputDigest
from wdp_edge.devices.reference import MAX_SUM_ERROR, difference, fixed_input


def test_the_fixed_input_is_that_of_the_runners() -> None:
    """The first values of the generator, by hand: s1 = 1664525 + 1013904223 = 1015568748."""
    s1 = 1015568748
    s2 = (s1 * 1664525 + 1013904223) % 2**32
    assert struct.unpack("2f", fixed_input(2, "float32")) == (s1 // 256 / 2**23 - 1, s2 // 256 / 2**23 - 1)
    assert list(fixed_input(2, "uint8")) == [s1 // 2**24, s2 // 2**24]
    values = struct.unpack("10000f", fixed_input(10_000, "float32"))
    assert -1 <= min(values) < -0.99 and 0.99 < max(values) < 1 and abs(sum(values)) < 200


OUTPUT = OutputDigest(10.0, (1.0, -2.0, 3.0, -4.0), 4)


def test_the_same_result_differs_in_nothing_that_counts() -> None:
    assert difference(OUTPUT, OUTPUT) == ""
    assert difference(replace(OUTPUT, first=(1.001, -2.002, 2.999, -4.0)), OUTPUT) == ""
    zero = OutputDigest(0.0, (0.0,), 1)
    assert difference(zero, zero) == ""


@pytest.mark.parametrize(
    ("got", "why"),
    [
        (replace(OUTPUT, count=5), "5 values instead of 4"),
        (replace(OUTPUT, first=(-4.0, 3.0, -2.0, 1.0)), "cosine"),
        (replace(OUTPUT, first=(0.0, 0.0, 0.0, 0.0)), "cosine 0.000"),
        (replace(OUTPUT, first=(1.0, -2.0, 3.0, 4.0)), "cosine"),
        (replace(OUTPUT, abs_sum=10 * (1 + 2 * MAX_SUM_ERROR)), "sum to"),
        (replace(OUTPUT, abs_sum=0.0), "sum to 0 instead of 10"),
    ],
)
def test_another_result_is_told(got: OutputDigest, why: str) -> None:
    assert why in difference(got, OUTPUT)


def test_a_model_that_gives_no_numbers_here_has_no_right_result() -> None:
    assert "cosine" in difference(OUTPUT, replace(OUTPUT, first=(float("nan"),) * 4, abs_sum=float("nan")))
