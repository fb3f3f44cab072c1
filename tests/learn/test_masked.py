"""A model under masks."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.learn.masked import MaskedForward, masked_norm


def test_no_masks_is_the_dense_model(tiny_model: Any) -> None:
    images = torch.randn(2, 3, 16, 16)
    expected = tiny_model(images)
    with MaskedForward(tiny_model):
        assert torch.equal(tiny_model(images), expected)
    assert not tiny_model.blocks[0].mlp.fc2._forward_pre_hooks


@given(st.sets(st.integers(0, 11), min_size=2), st.integers(0, 99))
def test_a_masked_norm_is_the_norm_of_what_is_kept(channels: set[int], seed: int) -> None:
    torch.manual_seed(seed)
    index, norm = torch.tensor(sorted(channels)), torch.nn.LayerNorm(12)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    mask = torch.zeros(12).index_fill_(0, index, 1.0)
    x = torch.randn(2, 5, 12)
    got = masked_norm(norm, x, mask)
    narrow = torch.nn.functional.layer_norm(x[..., index], [len(index)], norm.weight[index], norm.bias[index])
    assert torch.allclose(got[..., index], narrow, atol=1e-5)
    assert not got[..., mask == 0].any()


def test_a_sublayer_without_units_adds_nothing(tiny_model: Any) -> None:
    images = torch.randn(2, 3, 16, 16)
    block = tiny_model.blocks[1]
    with MaskedForward(tiny_model) as masked, torch.no_grad():
        masked.heads = [torch.ones(4), torch.zeros(4), torch.ones(4)]
        got = tiny_model(images)
    for part in (block.attn.proj.weight, block.attn.proj.bias):
        part.data.zero_()
    with torch.no_grad():
        assert torch.allclose(got, tiny_model(images), atol=1e-6)


def test_a_silenced_channel_tells_what_scores_would_gain_from_it(tiny_model: Any) -> None:
    """Channel 5 of the heads writes nothing here: it matters for the scores of attention alone."""
    images, mask = torch.randn(2, 3, 16, 16), torch.ones(8)
    mask[5] = 0.0
    attn = tiny_model.blocks[0].attn
    attn.proj.weight.data.unflatten(1, (4, 8))[:, :, 5] = 0.0
    got = []
    with MaskedForward(tiny_model) as masked:
        for value in (0.0, 1e-2):
            changed = mask.clone().index_fill_(0, torch.tensor(5), value).requires_grad_()
            masked.head_channels = [changed, torch.ones(8), torch.ones(8)]
            total = tiny_model(images).square().sum()
            total.backward()
            got.append(total.item())
            if not value:
                assert changed.grad is not None
                slope = float(changed.grad[5])
    assert slope and abs((got[1] - got[0]) / 1e-2 - slope) < 0.1 * abs(slope)
