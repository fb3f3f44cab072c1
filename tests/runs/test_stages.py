"""wdp_edge/runs/stages.py: what a stage hands on holds together, or is refused where it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_run import learned, measured, selected, verified

from wdp_edge.errors import InputError
from wdp_edge.runs.stages import Learned, Measured, Selected, Verified

TIMES = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=4)
UNITS = st.lists(st.lists(st.integers(-2, 4), max_size=4), max_size=3)


def made(call: Callable[[], Any]) -> Any:
    """None for a record that is refused."""
    try:
        return call()
    except InputError as error:
        assert "damaged" in error.message
        return None


@given(TIMES, TIMES)
def test_rounds_come_in_pairs_of_times(dense: list[float], shipped: list[float]) -> None:
    found: Measured | None = made(lambda: replace(measured(), rounds_dense=dense, rounds_shipped=shipped))
    sound = len(dense) == len(shipped) > 0 and all(0 < ms < float("inf") for ms in (*dense, *shipped))
    assert (found is not None) == sound


@given(UNITS, UNITS, st.lists(st.integers(-1, 9), max_size=3))
def test_every_block_keeps_units_in_rising_order(
    heads: list[list[int]], hidden: list[list[int]], head_dims: list[int]
) -> None:
    found: Selected | None = made(
        lambda: replace(selected(), kept_heads=heads, kept_hidden=hidden, head_dims=head_dims)
    )
    rising = all(units == sorted(set(units)) and all(unit >= 0 for unit in units) for units in (*heads, *hidden))
    blocks = len(heads) == len(hidden) > 0 and len(head_dims) in (0, len(heads))
    assert (found is not None) == (rising and blocks and all(width >= 0 for width in head_dims))


@pytest.mark.parametrize("field", ["heads_scores", "hidden_scores", "keep_heads", "keep_hidden"])
def test_learning_tells_of_every_block(field: str) -> None:
    whole = learned()
    assert isinstance(whole, Learned)
    assert made(lambda: replace(whole, **{field: getattr(whole, field)[:-1]})) is None


def test_something_was_compared() -> None:
    assert verified().parity and made(lambda: Verified([])) is None
