"""Precisions of a Core ML model: which form each layer's weight gets, and int8 activations.

The input of every layer whose activations are quantized is rounded to a calibrated range, in the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.calibration.ranges import Range, input_and_output_ranges
from wdp_edge.lowering.vit import matches, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Observer

_BITS = {Precision.PALETTE4: 4, Precision.PALETTE6: 6, Precision.PALETTE8: 8}
_INT8 = (Precision.INT8_WEIGHT, Precision.W8A8)
_BLOCKS = (32, 16)  # inputs that share one scale in int4
_GROUPS = {4: 4, 6: 16}  # by bits: output channels that share one palette; with 8 bits all of them
_EVERY = 0  # weights above this size are compressed: all of them
_LOW, _HIGH = -128, 127


@dataclass(frozen=True)
class Weight:
    """A layer's weight in the converted model. name: of its constant. shape: [out, in, ...]."""

    name: str
    shape: tuple[int, ...]


def compress(model: Any, precision: Precision, weights: Iterable[Weight]) -> Any:
    """A copy of the converted model (MLModel) in which these weights are small; fp32 and fp16 leave it as it is."""
    import coremltools.optimize.coreml as optimize

    if precision in (Precision.FP32, Precision.FP16):
        return model
    configs = {w.name: config(precision, w) for w in weights}
    if not configs:
        return model
    chosen = optimize.OptimizationConfig(global_config=None, op_name_configs=configs)
    if precision in _BITS:
        return optimize.palettize_weights(model, chosen)
    return optimize.linear_quantize_weights(model, chosen)


def config(precision: Precision, weight: Weight) -> Any:
    """How one weight is stored.

    int4 shares a scale between 32 or 16 inputs; a weight that cannot be divided so (the patch embedding has three
    input channels) is int8. Palettes are shared by a few output channels, where these divide so: fewer for four bits,
    whose error is the largest.
    """
    import coremltools.optimize.coreml as optimize

    outputs, inputs = weight.shape[:2]
    if bits := _BITS.get(precision):
        group = _GROUPS.get(bits)
        fits = group is not None and outputs % group == 0
        grouped = {"granularity": "per_grouped_channel", "group_size": group} if fits else {}
        return optimize.OpPalettizerConfig(mode="kmeans", nbits=bits, weight_threshold=_EVERY, **grouped)
    block = next((b for b in _BLOCKS if inputs % b == 0), None)
    if precision in _INT8 or block is None:
        return optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=_EVERY)
    return optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=block, weight_threshold=_EVERY
    )


class QuantizedInput:
    """A forward hook that rounds a layer's input to int8 and back, with one scale and zero point for the tensor.

    The converter turns the two operators into Core ML's `quantize` and `dequantize`; a runtime that multiplies int8
    with int8 fuses them with the layer.
    """

    def __init__(self, given: Range) -> None:
        low, high = min(float(given[0]), 0.0), max(float(given[1]), 0.0)
        self.scale = max((high - low) / (_HIGH - _LOW), torch.finfo(torch.float16).tiny)
        self.zero = round(_LOW - low / self.scale)

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        import torch.ao.quantization.fx  # registers the operators

        operators, form = torch.ops.quantized_decomposed, (self.scale, self.zero, _LOW, _HIGH, torch.int8)
        rounded = operators.quantize_per_tensor(inputs[0], *form)
        return (operators.dequantize_per_tensor(rounded, *form), *inputs[1:])


def quantize_inputs(lowered: nn.Module, images: Tensor, observer: Observer, keep_float: Sequence[str]) -> None:
    """Puts a `QuantizedInput` before every layer that is not kept. lowered: modified. images: [n, 3, H, W]."""
    names = [n for n in quantized_layers(lowered) if not matches(n, keep_float)]
    for name, (given, _) in input_and_output_ranges(lowered, names, images, observer).items():
        lowered.get_submodule(name).register_forward_pre_hook(QuantizedInput(given))
