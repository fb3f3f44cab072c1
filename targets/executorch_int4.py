"""Weights of 4 bits for XNNPACK, a scale for every 32 inputs; activations are quantized to int8 while running."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wdp_edge.targets.lowering import matches, quantized_layers

GROUP = 32  # the smallest that XNNPACK's kernels take
_SMALLEST = 2.0**-30  # of a scale: XNNPACK refuses subnormal ones
_TRIED = 25  # scales per group


def quantize_weights(lowered: nn.Module, keep_float: Sequence[str]) -> None:
    """Replaces the weights of linear layers, in place, by ones that export as XNNPACK's 8-bit × 4-bit product.

    Layers whose inputs are no multiple of `GROUP` get 8 bits and one scale per output.
    """
    for name in quantized_layers(lowered):
        layer = lowered.get_submodule(name)
        if isinstance(layer, nn.Linear) and not matches(name, keep_float):
            layer.weight = nn.Parameter(quantized(layer.weight.detach()), requires_grad=False)


def quantized(weight: Tensor) -> Tensor:
    """weight: [out, in] float32 -> the same as quantized integers with their scales."""
    from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import IntxUnpackedToInt8Tensor

    inputs = weight.shape[1]
    bits, group = (4, GROUP) if inputs % GROUP == 0 else (8, inputs)
    scales = best_scales(weight, bits, group)
    return IntxUnpackedToInt8Tensor.from_hp(
        weight,
        (1, group),
        torch.int4 if bits == 4 else torch.int8,  # type: ignore[attr-defined]  # not in its stubs
        activation_quantization="int8_asym_per_token",
        intx_choose_qparams_algorithm=None,
        custom_scale=scales,
        custom_zero_point=torch.zeros_like(scales, dtype=torch.int8),
    )


def best_scales(weight: Tensor, bits: int, group: int) -> Tensor:
    """The scale of each group with the least squared error: [out, in / group] float32.

    weight: [out, in]. Clipping the largest weight of a group often costs less than coarser steps for all others.
    """
    top = 2 ** (bits - 1) - 1
    groups = weight.reshape(len(weight), -1, group)
    whole = (groups.abs().amax(2, keepdim=True) / top).clamp_min(_SMALLEST)
    best, least = whole, torch.full_like(whole, torch.inf)
    for share in torch.linspace(0.6, 1.1, _TRIED):
        scale = (whole * share).clamp_min(_SMALLEST)
        error = ((groups / scale).round().clamp(-top - 1, top) * scale - groups).square().sum(2, keepdim=True)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best.squeeze(2)
