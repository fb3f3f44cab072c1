"""int8 for XNNPACK: PyTorch's own quantization of an exported program (PT2E)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from wdp_edge.target import ExportOptions, Observer, Precision
from wdp_edge.targets.lowering import matches

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Node

_UNQUANTIZED = "LoweredNorm"
_SCALE_FLOOR = 2.0**-30


def quantize(program: ExportedProgram, example: Tensor, options: ExportOptions) -> ExportedProgram:
    """int8 linear layers, weights per channel; the patch embedding too when activations are static.

    The attention's own products stay float32: quantizing them costs accuracy and hardly saves time.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    dynamic = options.precision is Precision.INT8_DYNAMIC
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
    """Those of the quantizer's patterns that a graph may match: without a batch norm in it, none that has one.

    Each of those would be traced anew, which takes three quarters of the time of quantizing. module: the exported
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
