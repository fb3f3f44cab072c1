"""Exits: where they may stand, and what they put out."""

from __future__ import annotations

import pytest
import torch
from learning import batch
from tiny_families import FORMS, made

from wdp_edge.learn.exits import Exits, exit_depths, forward_with_exits
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut


def test_exit_depths_keep_half_of_the_blocks() -> None:
    assert exit_depths(12, 2) == [10, 11]
    assert exit_depths(4, 9) == [2, 3]
    assert exit_depths(1, 2) == []


@pytest.mark.parametrize("form", FORMS)
def test_exits_start_as_the_model_and_end_as_what_is_cut_there(form: str) -> None:
    model = made(form)
    dense = vit.structure_of(model)
    depths = exit_depths(dense.depth, 2)
    images, _ = batch(0)
    with torch.no_grad():
        logits, early = forward_with_exits(model, Exits(model, depths), images)
        assert torch.allclose(logits, model(images), atol=1e-5)
        for depth, got in zip(depths, early, strict=True):
            kept = Kept.first(
                dense.with_widths(*zip(*((b.heads, b.hidden) for b in dense.blocks[:depth]), strict=True))
            )
            assert torch.allclose(got, cut(model, kept)(images), atol=1e-5)
