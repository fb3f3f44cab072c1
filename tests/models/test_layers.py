"""Linear layers and norms with fewer inputs, outputs or channels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wdp_edge.models.layers import keep_channels, keep_inputs, keep_outputs, kept

some = st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True).map(torch.tensor)


@given(some, st.booleans())
def test_outputs_that_stay_are_what_they_were(index: torch.Tensor, bias: bool) -> None:
    layer, x = nn.Linear(5, 8, bias=bias), torch.randn(3, 5)
    expected = layer(x)[:, index]
    keep_outputs(layer, index)
    assert torch.allclose(layer(x), expected, atol=1e-6) and layer.out_features == len(index)


@given(some, st.booleans())
def test_inputs_that_go_are_as_if_they_were_zero(index: torch.Tensor, bias: bool) -> None:
    layer, x = nn.Linear(8, 5, bias=bias), torch.randn(3, 8)
    only = torch.zeros(3, 8).index_copy_(1, index, x[:, index])
    expected = layer(only)
    keep_inputs(layer, index)
    assert torch.allclose(layer(x[:, index]), expected, atol=1e-6) and layer.in_features == len(index)


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_of_fewer_channels_keeps_their_scales(affine: bool) -> None:
    norm, index = nn.LayerNorm(8, elementwise_affine=affine), torch.tensor([6, 1, 3])
    if affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    weight, bias = (p[index] if affine else None for p in (norm.weight, norm.bias))
    x = torch.randn(2, 3)
    expected = nn.functional.layer_norm(x, [3], weight, bias)
    keep_channels(norm, index)
    assert torch.allclose(norm(x), expected, atol=1e-6)


@given(some, st.booleans(), st.integers(0, 1))
def test_what_stays_is_a_parameter_of_its_own(index: torch.Tensor, trainable: bool, dim: int) -> None:
    source = nn.Parameter(torch.randn(8, 8), requires_grad=trainable)
    found = kept(source, index, dim)
    assert torch.equal(found, source.index_select(dim, index)) and found.requires_grad == trainable
    with torch.no_grad():
        found.zero_()
    assert source.all()
