"""Swin Transformers rewritten for lowering: windows, shifts and mergings as timm has them, without a gather."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lowered_models import FORMS, made
from torch import nn

from wdp_edge.lowering.parts import Norms
from wdp_edge.lowering.swin import LoweredMerging, LoweredSwin, LoweredUnit, LoweredWindowAttention, rolled
from wdp_edge.lowering.vit import lower

SWIN = [form for form in FORMS if "depths" in FORMS[form][1]]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(-7, 7), st.integers(-7, 7))
def test_rolling_goes_around_the_edges(height: int, width: int, down: int, right: int) -> None:
    picture = torch.arange(height * width * 2).reshape(height, width, 2)
    assert torch.equal(rolled(picture, (down, right)), torch.roll(picture, (-down, -right), (0, 1)))


def blocks_of(form: str) -> list[Any]:
    model: Any = made(form)
    return [block for stage in model.layers for block in stage.blocks]


@pytest.mark.parametrize("form", SWIN)
@torch.no_grad()
def test_windows_come_back_as_they_went(form: str) -> None:
    for block in blocks_of(form):
        attention = LoweredWindowAttention(block)
        height, width = block.input_resolution
        x = torch.randn(1, height * width, block.dim)
        windows = attention.split(x)
        assert windows.shape[1] == block.window_size[0] * block.window_size[1]
        assert torch.equal(attention.join(windows), x)


@pytest.mark.parametrize("form", SWIN)
@torch.no_grad()
def test_an_attention_computes_what_timm_s_block_does(form: str) -> None:
    for block in blocks_of(form):
        height, width = block.input_resolution
        x = torch.randn(1, height, width, block.dim)
        got = LoweredWindowAttention(block)(x.flatten(1, 2))
        assert torch.allclose(got.reshape(x.shape), block._attn(x), atol=1e-4)


@pytest.mark.parametrize("norms", ["native", "folded"])
@pytest.mark.parametrize("form", ["swin", "swin v2"])
@torch.no_grad()
def test_a_merging_computes_what_timm_s_does(form: str, norms: Norms) -> None:
    model: Any = made(form)
    for size in ((4, 4), (3, 5)):
        merging = model.layers[1].downsample
        for parameter in merging.parameters():
            nn.init.normal_(parameter)
        x = torch.randn(1, *size, merging.dim)
        expected = merging(x).flatten(1, 2)
        got = LoweredMerging(merging, size, norms, centred=False)(x.flatten(1, 2))
        assert torch.allclose(got, expected, atol=1e-3)
        model = made(form)


def test_a_unit_has_length_one() -> None:
    x = torch.randn(2, 3, 8) * 100
    assert torch.allclose(LoweredUnit(8)(x), nn.functional.normalize(x, dim=-1), atol=1e-5)


@pytest.mark.parametrize("form", ["swin", "swin v2"])
def test_nothing_gathers_and_no_tensor_has_more_than_four_dimensions(form: str) -> None:
    lowered = lower(made(form))
    assert isinstance(lowered, LoweredSwin)
    program = torch.export.export(lowered, (torch.randn(1, 3, 16, 16),))
    for node in program.graph.nodes:
        if node.op == "call_function":
            assert not any(word in str(node.target) for word in ("index", "gather", "scatter", "roll"))
            assert node.meta["val"].ndim <= 4, node
