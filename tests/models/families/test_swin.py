"""timm's Swin Transformers: windows, stages, and exits before the last of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.models.swin_transformer import window_partition
from tiny_families import SWIN, made

from wdp_edge.errors import InputError
from wdp_edge.models import vit
from wdp_edge.models.families import family_of
from wdp_edge.models.families.swin import from_windows, padded


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_windows_go_back_to_where_they_came_from(
    size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> None:
    """Shifted, filled up to whole windows and taken apart as timm does it."""
    block: Any = SimpleNamespace(input_resolution=size, window_size=window, shift_size=shift)
    picture = torch.randn(2, *size, 3)
    height, width = padded(block)
    assert height % window[0] == width % window[1] == 0 and 0 <= height - size[0] < window[0]
    moved = torch.roll(picture, tuple(-s for s in shift), (1, 2))
    filled = torch.nn.functional.pad(moved, (0, 0, 0, width - size[1], 0, height - size[0]))
    windows = window_partition(filled, window).flatten(1, 2)
    assert torch.equal(from_windows(block, windows), picture)


@pytest.mark.parametrize("form", SWIN)
@pytest.mark.parametrize("depth", [1, 3, 4])
@torch.no_grad()
def test_a_truncated_model_still_ends_in_its_last_width(form: str, depth: int) -> None:
    model, short = made(form), made(form)
    family, images = family_of(model), torch.randn(2, 3, 16, 16)
    family.truncate(short, depth)
    x = family.embed(model, images)
    for number in range(depth):
        x = family.block(model, number)(x)
    assert len(family.blocks(short)) == depth
    expected = vit.classifier(model)(family.pooled(model, x, depth, model.norm))
    assert torch.allclose(short(images), expected, atol=1e-5)


@pytest.mark.parametrize("form", SWIN)
def test_blocks_keep_both_sublayers(form: str) -> None:
    model = made(form)
    family = family_of(model)
    with pytest.raises(InputError, match="keep both sub-layers"):
        family.partial(family.blocks(model)[0], True, False)
    assert not family.drops and not family.added


@pytest.mark.parametrize("form", SWIN)
@torch.no_grad()
def test_an_embedding_can_take_the_head_s_place(form: str) -> None:
    model = made(form)
    family = family_of(model)
    family.set_head(model, torch.nn.Identity())
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, vit.sublayers(model)[-1].writer.out_features)  # type: ignore[union-attr]
