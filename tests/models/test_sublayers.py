"""Attention and MLP of any family: together they are the block, and what the writer reads makes what is added."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families import FORMS, made

from wdp_edge.models import vit


def some_stream(model: Any) -> torch.Tensor:
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return vit.embed(model, images)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_two_sublayers_are_a_block(form: str) -> None:
    model = made(form)
    x, parts = some_stream(model), vit.sublayers(model)
    for number in range(len(vit.blocks_of(model))):
        expected = vit.run_block(model, number, x)
        for part in parts[2 * number : 2 * number + 2]:
            assert part is not None
            x = part(x)
        assert torch.allclose(x, expected, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_the_writer_s_inputs_make_what_is_added(form: str) -> None:
    """In the stream's own order, also where the sub-layer works in windows: the refit takes them token by token."""
    model = made(form)
    x = some_stream(model)
    for part in vit.sublayers(model):
        assert part is not None
        written = part.written(x)
        assert written.shape[-1] == part.writer.in_features and written.shape[-1] % part.unit == 0
        after = part.enter(x) + part.scale(part.writer(written))
        x = part(x)
        assert torch.allclose(after, x, atol=1e-4)
        assert not part.writer._forward_pre_hooks
