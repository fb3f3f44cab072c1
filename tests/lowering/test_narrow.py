"""Streams scaled down for 16-bit floats: the same function, and squares that fit."""

from __future__ import annotations

import pytest
import torch
from tiny_families import made

from wdp_edge.lowering.narrow import LARGEST, LEAST, largest_read, narrow_stream, readers, scale_stream
from wdp_edge.lowering.vit import LoweredViT, lower

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def outputs(lowered: torch.nn.Module) -> torch.Tensor:
    return torch.cat([lowered(image) for image in IMAGES.split(1)])


@pytest.mark.parametrize("form", ["plain", "registers", "deit3", "no class token", "dinov3", "packed swiglu"])
def test_a_large_stream_becomes_small_and_the_outputs_stay(form: str) -> None:
    lowered = lower(made(form))
    assert isinstance(lowered, LoweredViT)
    with torch.no_grad():
        expected = outputs(lowered)
        scale_stream(lowered, 1024.0)
        assert torch.allclose(outputs(lowered), expected, atol=1e-5)
        assert largest_read(lowered, IMAGES) > 256
        factor = narrow_stream(lowered, IMAGES)
        assert LARGEST / 2 < largest_read(lowered, IMAGES) <= LARGEST and factor in {2.0**-k for k in range(1, 20)}
        # 1e-5: an eps that would fall below the smallest 16-bit float is that float.
        assert torch.allclose(outputs(lowered), expected, atol=1e-5)
    assert all(float(norm.mean_square.bias) >= LEAST for norm in readers(lowered))


def test_a_small_stream_stays_as_it_is() -> None:
    lowered = lower(made("plain"))
    before = {name: values.clone() for name, values in lowered.state_dict().items()}
    assert narrow_stream(lowered, IMAGES) == 1.0
    assert all(torch.equal(before[name], values) for name, values in lowered.state_dict().items())


def test_a_stream_that_more_than_norms_read_is_left_alone() -> None:
    assert narrow_stream(lower(made("swin")), IMAGES) == 1.0


def test_a_token_of_zeros_is_no_division_by_zero_in_16_bits() -> None:
    lowered = lower(made("plain"))
    assert isinstance(lowered, LoweredViT)
    scale_stream(lowered, 2.0**-12)
    for norm in readers(lowered):
        eps = norm.mean_square.bias.half()
        assert torch.isfinite(torch.zeros(1).half() * torch.rsqrt(eps)).all()
