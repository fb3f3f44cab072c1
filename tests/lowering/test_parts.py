"""Norms, attentions and MLPs rewritten for lowering, each against the part that it stands for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import apply_rot_embed_cat
from tiny_families import EVA, PLAIN, made
from torch import nn

from wdp_edge.lowering.parts import (
    LoweredAttention,
    LoweredBlock,
    LoweredNorm,
    LoweredRotation,
    Norms,
    centre,
    finish,
    lowered_norm,
    norm_after,
    plain_linear,
    rope_of,
)
from wdp_edge.models import vit


def some_norm() -> nn.LayerNorm:
    norm = nn.LayerNorm(8)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    return norm


@given(centred=st.booleans(), offset=st.floats(-5, 5))
@torch.no_grad()
def test_a_norm_s_affine_part_goes_into_its_reader(centred: bool, offset: float) -> None:
    norm, reader, x = some_norm(), nn.Linear(8, 3), torch.randn(1, 5, 8) + offset
    expected = reader(norm(x))
    folded = plain_linear(reader.weight, reader.bias)
    lowered = lowered_norm(norm, [folded], centred)
    given = x - x.mean(-1, keepdim=True) if centred else x
    assert torch.allclose(folded(lowered(given)), expected, atol=1e-4)
    assert isinstance(lowered, LoweredNorm) and lowered.scale is None


@torch.no_grad()
def test_a_norm_behind_a_layer_keeps_its_own_scale_and_shift() -> None:
    norm, writer, x = some_norm(), nn.Linear(4, 8), torch.randn(1, 5, 4)
    expected = norm(writer(x))
    after = norm_after(norm, writer)
    assert torch.allclose(after(writer(x)), expected, atol=1e-5)
    assert norm_after(nn.Identity(), writer).__class__ is nn.Identity


@given(st.booleans(), st.booleans())
@torch.no_grad()
def test_what_a_layer_writes_takes_in_the_scale_and_loses_the_mean(scaled: bool, centred: bool) -> None:
    layer, gamma, x = nn.Linear(4, 8), torch.randn(8) if scaled else None, torch.randn(3, 4)
    expected = layer(x) if gamma is None else layer(x) * gamma
    expected = expected - expected.mean(-1, keepdim=True) if centred else expected
    finish(layer, gamma, centred)
    assert torch.allclose(layer(x), expected, atol=1e-5)


@torch.no_grad()
def test_a_patch_embedding_is_centred_too() -> None:
    conv, images = nn.Conv2d(3, 8, 4, 4), torch.randn(2, 3, 16, 16)
    expected = conv(images)
    centre(conv)
    assert torch.allclose(conv(images), expected - expected.mean(1, keepdim=True), atol=1e-5)


def test_a_layer_without_bias_gets_one() -> None:
    source = nn.Linear(4, 3, bias=False)
    layer = plain_linear(source.weight, None)
    assert torch.equal(layer(torch.ones(4)), source(torch.ones(4)))
    assert not layer.bias.any() and not layer.weight.requires_grad


@given(st.integers(0, 3), st.booleans())
def test_rotation_is_timm_s_with_the_channels_in_another_order(prefix: int, half: bool) -> None:
    torch.manual_seed(0)
    patches, width = 5, 8
    angles = torch.randn(patches, width // 2)
    angles = angles.repeat(1, 2) if half else angles.repeat_interleave(2, 1)
    rope = torch.cat([angles.sin(), angles.cos()], -1)
    x = torch.randn(prefix + patches, 2, width)
    turned = apply_rot_embed_cat(x[prefix:].movedim(0, 1), rope, half=half).movedim(1, 0)
    expected = torch.cat([x[:prefix], turned])
    order = torch.arange(width)
    order = order if half else torch.cat([order[0::2], order[1::2]])
    assert torch.allclose(LoweredRotation(rope, prefix, order)(x[..., order]), expected[..., order], atol=1e-5)


@pytest.mark.parametrize("form", [*PLAIN, *EVA])
@torch.no_grad()
def test_an_attention_computes_what_timm_s_does(form: str) -> None:
    model = made(form)
    part = vit.sublayers(model)[2]
    assert part is not None
    x = torch.randn(1, vit.tokens_of(model), 32)
    expected = part.inner(x)
    assert torch.allclose(LoweredAttention(part.module, rope_of(part))(x), expected, atol=1e-4)


@pytest.mark.parametrize("norms", ["native", "folded"])
@pytest.mark.parametrize(("attention", "mlp"), [(True, True), (True, False), (False, True), (False, False)])
@torch.no_grad()
def test_a_block_may_lack_a_sublayer(attention: bool, mlp: bool, norms: Norms) -> None:
    model = made("dinov2")
    both, x = vit.sublayers(model)[:2], torch.randn(1, vit.tokens_of(model), 32)
    kept = [part if stays else None for part, stays in zip(both, (attention, mlp), strict=True)]
    expected = x
    for part in kept:
        expected = expected if part is None else part(expected)
    assert torch.allclose(LoweredBlock(kept[0], kept[1], False, norms)(x), expected, atol=1e-4)
