"""float16 ONNX graphs, rounded as they say: ONNX Runtime has no float16 kernels on a CPU and computes in float32.

There it puts casts around every operator, removes those between two of them, and so never rounds: what overflows beyond
65,504 on a GPU or an NPU is a good number here. Casts that the graph itself has are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


def has_half(model: ModelProto) -> bool:
    """Whether anything in the graph is float16."""
    from onnx import TensorProto

    tensors = [*model.graph.initializer, *(t for node in model.graph.node for t in attribute_tensors(node))]
    casts = any(a.name == "to" and a.i == TensorProto.FLOAT16 for n in model.graph.node for a in n.attribute)
    return casts or any(t.data_type == TensorProto.FLOAT16 for t in tensors)


def rounded(model: ModelProto) -> ModelProto:
    """The same graph in float32, with every float16 result rounded to float16 and back.

    Every operator computes in float32 and rounds what it writes: what accelerators do that add up in float32.
    """
    import onnx
    from onnx import TensorProto

    typed = onnx.shape_inference.infer_shapes(model)
    values = [*typed.graph.value_info, *typed.graph.output]
    halves = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    graph = wide.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        widen(tensor)
    nodes = [new for node in graph.node for new in with_rounding(node, halves)]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return wide


def with_rounding(node: NodeProto, halves: set[str]) -> Iterator[NodeProto]:
    """The node in float32, and casts behind those of its results that are float16."""
    from onnx import TensorProto, helper

    for tensor in attribute_tensors(node):
        widen(tensor)
    to_half = node.op_type == "Cast" and node.output[0] in halves
    if to_half:
        next(a for a in node.attribute if a.name == "to").i = TensorProto.FLOAT
    names = [name for name in node.output if name in halves]
    node.output[:] = [f"{name}_wide" if name in halves else name for name in node.output]
    yield node
    for name in names:
        yield helper.make_node("Cast", [f"{name}_wide"], [f"{name}_half"], to=TensorProto.FLOAT16)
        yield helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)


def attribute_tensors(node: NodeProto) -> list[TensorProto]:
    """Constants in a node's attributes."""
    return [a.t for a in node.attribute if a.HasField("t")]


def widen(tensor: TensorProto) -> None:
    """Makes a float16 constant float32, in place."""
    import numpy as np
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT16:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
