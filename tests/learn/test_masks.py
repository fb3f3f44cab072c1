"""Which units are kept: counts, and gradients that pass through the choice."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.learn.masks import Alignment, Masks, TopK, kept_count, logit
from wdp_edge.models.structure import BlockWidths, Structure


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


def test_channels_go_from_the_last_one_on_and_pull_at_their_threshold() -> None:
    structure = Structure(96, (BlockWidths(2, 32, 8), BlockWidths(2, 16, 8)))
    masks = Masks(structure, [[0.1, 0.2]] * 2, [list(range(8))] * 2, Alignment(), narrow=(16, 24))
    assert masks.channels() == [32, 16], "the second block's heads have no fewer"
    with torch.no_grad():
        assert masks.channels_thresholds is not None
        masks.channels_thresholds[0] = logit(0.6)
    assert masks.channels() == [24, 16], "never less than learned"
    found = masks.channel_masks()
    assert found is not None
    assert found[0].tolist() == [1] * 24 + [0] * 8 and found[1].tolist() == [1] * 16
    (found[0] * torch.arange(32)).sum().backward()
    gradient = masks.channels_thresholds.grad
    assert gradient is not None and gradient[0] > 0 and gradient[1] == 0


def test_masks_begin_at_a_structure() -> None:
    dense = Structure(384, (BlockWidths(6, 64, 1536),) * 3)
    small = dense.with_widths([1, 4, 6], [16, 640, 1536], [16, 40, 64])
    scores = [list(range(6))] * 3, [list(range(1536))] * 3
    masks = Masks(dense, *scores, Alignment(1, 16), narrow=(16, 24, 32, 40, 48, 56))
    masks.start_at(small)
    heads, hidden = masks.widths()
    assert heads == [1, 4, 6] and masks.channels() == [16, 40, 64]
    assert hidden == [48, 640, 1504], "a share of nearly nothing or of nearly all would hardly move"


def test_without_narrower_heads_nothing_is_learned_of_channels() -> None:
    masks = Masks(Structure(96, (BlockWidths(2, 32, 8),)), [[0.1, 0.2]], [list(range(8))], Alignment())
    assert masks.channel_masks() is None and masks.channels() == [32]
    assert {name for name, _ in masks.named_parameters() if "thresholds" in name} == {
        "heads_thresholds",
        "hidden_thresholds",
    }
