"""Which form each layer's weight gets in a Core ML model, and int8 inputs rounded in the graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_families import made
from torch import nn

from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Observer
from wdp_edge.targets.coreml.precisions import QuantizedInput, Weight, compress, config, quantize_inputs
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

with quiet(), silent_stderr():
    import coremltools  # noqa: F401  (says what it cannot do here when it is imported)


def form_of(precision: Precision, *shape: int) -> Any:
    return config(precision, Weight("w", shape))


@pytest.mark.parametrize(("inputs", "block"), [(64, 32), (96, 32), (48, 16), (16, 16)])
def test_four_bits_share_a_scale_between_a_few_inputs(inputs: int, block: int) -> None:
    found = form_of(Precision.INT4_WEIGHT, 8, inputs)
    assert (found.block_size, found.granularity.name) == (block, "PER_BLOCK")
    assert found.dtype.get_bitwidth() == 4


@pytest.mark.parametrize("shape", [(8, 3, 4, 4), (8, 20)])
def test_weights_that_cannot_be_divided_get_eight_bits(shape: tuple[int, ...]) -> None:
    divided, eight = form_of(Precision.INT4_WEIGHT, *shape), form_of(Precision.INT8_WEIGHT, *shape)
    assert (divided.dtype, divided.granularity) == (eight.dtype, eight.granularity)
    assert form_of(Precision.W8A8, *shape).dtype == eight.dtype and eight.dtype.get_bitwidth() == 8


@pytest.mark.parametrize(
    ("precision", "outputs", "bits", "group"),
    [
        (Precision.PALETTE4, 64, 4, 4),
        (Precision.PALETTE4, 10, 4, None),
        (Precision.PALETTE6, 64, 6, 16),
        (Precision.PALETTE6, 20, 6, None),
        (Precision.PALETTE8, 64, 8, None),
    ],
)
def test_palettes_are_shared_by_a_few_outputs_where_these_divide(
    precision: Precision, outputs: int, bits: int, group: int | None
) -> None:
    found = form_of(precision, outputs, 64)
    assert found.nbits == bits and found.weight_threshold == 0
    grouped = found.granularity.name == "PER_GROUPED_CHANNEL"
    assert grouped == (group is not None) and (group is None or found.group_size == group)


def test_float_models_are_left_as_they_are() -> None:
    model = object()
    for precision in (Precision.FP32, Precision.FP16):
        assert compress(model, precision, [Weight("w", (8, 8))]) is model
    assert compress(model, Precision.INT8_WEIGHT, []) is model, "every layer is kept"


@given(st.floats(-50, 50), st.floats(-50, 50), st.integers(0, 99))
def test_inputs_inside_the_range_are_at_most_half_a_step_off(one: float, other: float, seed: int) -> None:
    low, high = sorted((one, other))
    assume(max(high, 0.0) - min(low, 0.0) > 0.02)  # narrower ones get a floor under their steps
    hook = QuantizedInput((torch.tensor(low), torch.tensor(high)))
    x = low + (high - low) * torch.rand(40, generator=torch.Generator().manual_seed(seed))
    (rounded,) = hook(nn.Identity(), (x,))
    assert float((rounded - x).abs().max()) <= 0.51 * hook.scale + 1e-6
    assert not hook(nn.Identity(), (torch.zeros(3),))[0].any(), "zero stays zero: padding is one"
    far, _ = hook(nn.Identity(), (torch.full((1,), 1e4), torch.ones(1)))
    assert float(far) <= max(high, 0.0) + hook.scale + 1e-6


def test_layers_that_are_kept_see_their_inputs_unrounded() -> None:
    lowered, images = lower(made("plain"), norms="native"), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = lowered(images[:1])
        quantize_inputs(lowered, images, Observer.MINMAX, quantized_layers(lowered))
        assert torch.equal(lowered(images[:1]), expected)
        kept = ("blocks.0.attn.qkv", "head")
        quantize_inputs(lowered, images, Observer.MINMAX, kept)
        assert not torch.equal(lowered(images[:1]), expected)
    hooked = {name for name, module in lowered.named_modules() if module._forward_pre_hooks}
    parts = {"blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "head"}
    assert hooked == set(quantized_layers(lowered)) - parts
