"""One knob is turned until the latency is right."""

import pytest
from arena.fit import FLOOR, OutOfReach, fit
from hypothesis import given
from hypothesis import strategies as st


@given(share=st.floats(0.3, 0.9), fixed=st.floats(0.0, 0.2), power=st.floats(1.0, 2.0))
def test_smooth_latencies_are_met(share: float, fixed: float, power: float) -> None:
    def share_of(keep: float) -> float:
        return fixed + (1 - fixed) * keep**power

    _, seen = fit(lambda keep: keep, share_of, share)
    assert FLOOR * share <= seen <= share


@given(share=st.floats(0.3, 0.9), steps=st.integers(3, 24))
def test_the_file_is_never_too_slow(share: float, steps: int) -> None:
    """Depth can only be cut in whole blocks: the budget is then not used up, but kept."""

    def share_of(blocks: int) -> float:
        return blocks / steps

    try:
        blocks, seen = fit(lambda keep: max(1, round(keep * steps)), share_of, share)
    except OutOfReach:
        assert 1 / steps > share
        return
    assert seen == blocks / steps <= share


def test_a_budget_that_nothing_meets_is_an_error() -> None:
    with pytest.raises(OutOfReach, match="30%"):
        fit(lambda keep: keep, lambda keep: 0.9, 0.3)
