"""Precisions of a .pte: int8, half precision, and weights of 4 bits.

int8 is PyTorch's own quantization of an exported program (PT2E). In half precision, weights and maths are float16,
input and output float32. Weights of 4 bits have a scale for every 32 inputs; activations are quantized to int8 while
running.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wdp_edge.lowering.narrow import LEAST
from wdp_edge.lowering.parts import LoweredNorm
from wdp_edge.lowering.vit import matches, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, Observer

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


_UNQUANTIZED = "LoweredNorm"
_SCALE_FLOOR = 2.0**-30
_SMALLEST = 2.0**-30  # of a scale: XNNPACK refuses subnormal ones
_TRIED = 25  # scales per group
_SHRINK = 2.0**-3
GROUP = 32  # the smallest that XNNPACK's kernels take


def quantize(program: ExportedProgram, example: Tensor, options: ExportOptions) -> ExportedProgram:
    """int8 linear layers, weights per channel; the patch embedding too when activations are static.

    The attention's own products stay float32: quantizing them costs accuracy and hardly saves time.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    dynamic = options.precision == Precision.INT8_DYNAMIC
    config = quantization_config(dynamic, options.observer or Observer.MSE)
    module = program.module()
    quantizer: Any = XNNPACKQuantizer().set_filter_function(quantizable(options.keep_float))
    quantizer.set_operator_type(torch.ops.aten.linear.default, config)
    if not dynamic:
        quantizer.SUPPORTED_PATTERNS = needed_patterns(quantizer.SUPPORTED_PATTERNS, module)
        quantizer.set_operator_type(torch.ops.aten.conv2d.default, config)
    prepared = prepare_pt2e(module, quantizer)
    for image in [example] if dynamic or options.calibration is None else options.calibration.split(1):
        prepared(image)
    return torch.export.export(convert_pt2e(prepared), (example,))


def needed_patterns(patterns: Sequence[Any], module: Any) -> list[Any]:
    """The quantizer's patterns that a graph can match: without a batch norm in it, those without one.

    Each of those would be traced again, which takes three quarters of the time of quantizing. module: the exported
    GraphModule; its dead code is dropped, as looking for a batch norm would have done.
    """
    module.graph.eliminate_dead_code()
    module.recompile()
    if any("batch_norm" in str(node.target) for node in module.graph.nodes):
        return list(patterns)
    return [pattern for pattern in patterns if "_bn" not in pattern.name]


def quantization_config(dynamic: bool, observer: Observer) -> Any:
    """XNNPACK's symmetric int8 configuration, without its floor of 2^-12 under the scales.

    With LayerScale folded in, `proj` and `fc2` have weights so small that the floor would round them to zero.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    weights = PerChannelMinMaxObserver.with_args(eps=_SCALE_FLOOR)
    config = replace(config, weight=replace(config.weight, observer_or_fake_quant_ctr=weights))
    if dynamic:
        return config
    # The histogram's range is the one with the least squared error.
    kind = HistogramObserver if observer is Observer.MSE else MinMaxObserver
    seen = replace(config.input_activation, observer_or_fake_quant_ctr=kind.with_args(eps=_SCALE_FLOOR))
    return replace(config, input_activation=seen, output_activation=seen)


def quantizable(keep_float: Sequence[str]) -> Callable[[Node], bool]:
    """Whether a node of the graph may be quantized: not in a layer to keep, nor in a norm (its mean of squares)."""

    def check(node: Node) -> bool:
        modules = node.meta.get("nn_module_stack", {}).values()
        return not any(_UNQUANTIZED in str(kind) or matches(path, keep_float) for path, kind in modules)

    return check


# A power of two is exact. Residual streams of large ViTs reach hundreds, and squares above 65504 do not exist in half;
# shrunk further, those of streams around 0.05 would lose digits.
class HalfModel(nn.Module):
    """Runs `model` in half. Takes over a lowered model, which is changed.

    safe: norms whose input is known to have squares that fit.
    """

    def __init__(self, model: nn.Module, safe: Sequence[LoweredNorm] = ()) -> None:
        super().__init__()
        for norm in safe:
            norm.mean_square.bias.clamp_(min=LEAST)
        self.model = replaced(model, {id(norm) for norm in safe}).half()

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, ...] float32 or uint8 -> float32."""
        return self.model(x.half()).float()


def replaced(model: nn.Module, safe: Collection[int]) -> nn.Module:
    """The model, its norms and activations in forms that half precision and the delegate can run; safe norms stay."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoweredNorm) and id(child) not in safe:
                setattr(module, name, HalfNorm(child))
            elif type(child).__name__ in ("GELU", "GELUTanh"):
                setattr(module, name, HalfGelu())
    return model


class HalfNorm(nn.Module):
    """`LoweredNorm` whose squares stay inside float16's range up to |x| = 2047."""

    scale: Tensor | None
    shift: Tensor | None
    shrink: Tensor

    def __init__(self, norm: LoweredNorm) -> None:
        super().__init__()
        self.mean_square, self.mean = norm.mean_square, norm.mean
        self.mean_square.bias.mul_(_SHRINK**2).clamp_(min=LEAST)
        self.register_buffer("scale", norm.scale)
        self.register_buffer("shift", norm.shift)
        # A buffer, not a number: a number would become a float32 constant that is cast again in every run.
        self.register_buffer("shrink", torch.tensor([_SHRINK]))

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] float16 -> [1, N, D] float16."""
        if self.mean is not None:
            x = x - self.mean(x)
        x = x * self.shrink
        normed = x * torch.rsqrt(self.mean_square(x * x))
        if self.scale is not None:
            normed = normed * self.scale
        return normed if self.shift is None else normed + self.shift


class HalfGelu(nn.Module):
    """GELU in its tanh form, written as x · sigmoid(…): operators that XNNPACK has for float16.

    The two forms differ by 0.0005 at most, half a step of float16 where they do; XNNPACK has no GELU of its own in
    float16, and a portable one would split the delegate at every block.
    """

    linear: Tensor
    cubic: Tensor

    def __init__(self) -> None:
        super().__init__()
        slope = 2 * math.sqrt(2 / math.pi)
        self.register_buffer("linear", torch.tensor([slope]))
        self.register_buffer("cubic", torch.tensor([0.044715 * slope]))

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape, float16."""
        return x * torch.sigmoid(x * (x * x * self.cubic + self.linear))


def quantize_weights(lowered: nn.Module, keep_float: Sequence[str]) -> None:
    """Replaces the weights of linear layers, in place, by ones that export as XNNPACK's 8-bit × 4-bit product.

    Layers whose inputs are not a multiple of `GROUP` get 8 bits and one scale per output.
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
