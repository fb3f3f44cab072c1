"""int8 activations for Core ML: the input of every quantized layer is rounded to a calibrated range, in the graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wdp_edge.calibration.ranges import Range, input_and_output_ranges
from wdp_edge.target import Observer
from wdp_edge.targets.lowering import matches, quantized_layers

_LOW, _HIGH = -128, 127


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
