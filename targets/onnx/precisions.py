"""Other precisions of a float32 ONNX graph, by ONNX Runtime's own tools."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError
from wdp_edge.targets.onnx.graph import KINDS, layer_nodes
from wdp_edge.targets.onnx.weights import overrides, transpose_constants

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from wdp_edge.calibration.ranges import Range

_PRODUCTS = ("MatMul", "Gemm")


def half(model: ModelProto) -> ModelProto:
    """float16 inside; inputs and outputs keep their types."""
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # The conversion puts its casts last, where the standard forbids them.
    converted: Any = ONNXModel(convert_float_to_float16(model, keep_io_types=True))
    converted.topological_sort()
    sound: ModelProto = converted.model
    return sound


def dynamic(model: ModelProto, layers: Collection[str]) -> ModelProto:
    """int8 weights per output channel in these layers (`onnx_weights`); their inputs become uint8 while running.

    A convolution stays float32: the runtime has no fast kernel for a dynamic one.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = [node for _, node in layer_nodes(model.graph, layers) if node.op_type in _PRODUCTS]
    chosen = {node.name for node in nodes}
    # The quantizer would turn these itself, under other names than the scales are given for.
    transpose_constants(model.graph, nodes)
    others = [n.name for n in model.graph.node if n.op_type in _PRODUCTS and n.name not in chosen]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            model,
            path,
            op_types_to_quantize=list(_PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            # A Gemm is split before names are compared, and its product then has a longer name.
            nodes_to_exclude=[name + end for name in others for end in ("", "_MatMul")],
            extra_options={"TensorQuantOverrides": overrides(model.graph, nodes)},
        )
        return onnx.load(path)


def static(model: ModelProto, ranges: Mapping[str, Range]) -> ModelProto:
    """Inputs of these layers as uint8 of a fixed range, int8 weights per output channel (`onnx_weights`).

    Outputs stay float32.

    ranges: of the input of every layer to quantize.
    Raises InputError when the runtime's optimizer merged one of the layers with something else.
    """
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    if not ranges:
        return model  # the quantizer takes an empty choice for all nodes
    model = optimized(model)
    nodes = list(layer_nodes(model.graph, ranges))
    if lost := sorted(set(ranges) - {layer for layer, _ in nodes}):
        raise InputError(
            f"ONNX Runtime merged {', '.join(lost)} with another layer.",
            "Name these in keep_float, or fold them first.",
        )
    separate_inputs(model.graph, [node for _, node in nodes])
    seen = {
        node.input[0]: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for node, (low, high) in ((node, ranges[layer]) for layer, node in nodes)
    }
    quantizer: Any = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        # With signed activations this runtime falls back to float products: three times as slow as uint8.
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, seen),
        nodes_to_quantize=[node.name for _, node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=list(KINDS),
        extra_options={
            "OpTypesToExcludeOutputQuantization": list(KINDS),
            "TensorQuantOverrides": overrides(model.graph, [node for _, node in nodes]),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: ModelProto = quantizer.model.model
    return quantized


def separate_inputs(graph: GraphProto, chosen: Sequence[NodeProto]) -> None:
    """Lets `chosen` read a tensor that others read too under another name: the tools round a tensor for all readers."""
    from onnx import helper

    names = {node.name for node in chosen}
    shared = {name for node in graph.node if node.name not in names for name in node.input}
    renamed = {node.input[0]: f"{node.input[0]}_int8" for node in chosen if node.input[0] in shared}
    for node in chosen:
        node.input[0] = renamed.get(node.input[0], node.input[0])
    graph.node.extend(
        helper.make_node("Identity", [old], [new], name=f"{new}_identity") for old, new in renamed.items()
    )


def optimized(model: ModelProto) -> ModelProto:
    """The graph as the runtime simplifies it: bias and product in one Gemm, which a static layer has to be.

    Twice: only the second time, layers that read the same tensor also read the same reshaped one.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.onnx" for number in range(3)]
        onnx.save(model, paths[0])
        for before, after in itertools.pairwise(paths):
            quant_pre_process(before, after, skip_symbolic_shape=True)
        return onnx.load(paths[-1])
