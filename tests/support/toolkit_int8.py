"""The toolkit's own quantized graph (PT2E for XNNPACK), run by torch: what the imitation is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.lowering.vit import quantized_layers


def quantized_by_toolkit(
    lowered: nn.Module, calibration: Tensor | None, only: Sequence[str] | None = None
) -> Callable[[Tensor], Tensor]:
    """int8 with min-max ranges from `calibration`, or dynamic ranges of whole tensors without it.

    only: names of the layers to quantize, or all.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config: Any = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=calibration is None)
    fine = PerChannelMinMaxObserver.with_args(eps=2**-30)
    config = replace(config, weight=replace(config.weight, observer_or_fake_quant_ctr=fine))
    if calibration is not None:
        seen = replace(config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-30))
        config = replace(config, input_activation=seen, output_activation=seen)
    wanted = set(quantized_layers(lowered) if only is None else only)
    # A convolution is also asked about by its weights, which belong to no module.
    quantizer: Any = XNNPACKQuantizer().set_filter_function(lambda n: n.op == "get_attr" or _layer(n) in wanted)
    # A ViT has no batch norm; to trace the patterns with one takes most of the time.
    quantizer.SUPPORTED_PATTERNS = [p for p in quantizer.SUPPORTED_PATTERNS if "_bn" not in p.name]
    quantizer.set_operator_type(torch.ops.aten.linear.default, config)
    if calibration is not None:
        quantizer.set_operator_type(torch.ops.aten.conv2d.default, config)
    images = torch.zeros(1, 3, 16, 16) if calibration is None else calibration
    with torch.no_grad():
        prepared = prepare_pt2e(torch.export.export(lowered, (images[:1],)).module(), quantizer)
        for image in images.split(1):
            prepared(image)
        converted = convert_pt2e(prepared)
    return lambda x: torch.cat([converted(image).detach() for image in x.split(1)])


def _layer(node: Any) -> str:
    """Name of the innermost module that a node came from."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return stack[-1][0].removeprefix("L['self'].") if stack else ""
