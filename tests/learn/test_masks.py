"""Which units are kept: counts, and gradients that pass through the choice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.learn.masks import TopK, kept_count


@given(st.floats(0.001, 1.0), st.integers(1, 300), st.integers(1, 32))
def test_kept_count_is_aligned_and_never_zero(keep: float, units: int, multiple: int) -> None:
    kept = kept_count(keep, units, multiple)
    assert 1 <= kept <= units
    assert kept == units or kept % multiple == 0
    assert kept >= keep * units - 1e-6


def test_topk_and_its_straight_through_gradients() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.3], requires_grad=True)
    keep = torch.tensor(0.5, requires_grad=True)
    mask = TopK.apply(scores, keep, 2)
    assert mask.tolist() == [0, 1, 1, 0]
    mask.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert scores.grad is not None and scores.grad.tolist() == [1, 2, 3, 4]
    # Next to the threshold stand unit 2 (kept last) and unit 3 (first out): mean 3.5, times 4 units.
    assert keep.grad is not None and keep.grad.item() == pytest.approx(14.0)
