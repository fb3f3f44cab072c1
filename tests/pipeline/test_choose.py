"""Closing the loop: which of the measured structures is taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as s

from wdp_edge.models.surgery import Kept
from wdp_edge.pipeline.choose import largest_within


@given(s.lists(s.floats(0.5, 1.5), min_size=1, max_size=5), s.floats(0.9, 1.0))
def test_the_largest_measured_structure_that_fits_is_taken(shares: list[float], most: float) -> None:
    tried = [(used, Kept(((i,),), ((0,),))) for i, used in enumerate(shares)]
    used = shares[largest_within(tried, most).heads[0][0]]
    if min(shares) > most:
        assert used == min(shares)
    else:
        assert used <= most and all(other > most or other <= used for other in shares)
