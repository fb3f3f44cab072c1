"""Scales of int8 weights with which every processor computes the same products.

x86 processors without VNNI multiply uint8 by int8 with an instruction that adds the products of two neighbours in
*saturating* 16 bits (vpmaddubsw). 255 * 128 fits there, 255 * 129 does not: so no two neighbours of the same sign may
add up to more than 128. Each output's scale is the smallest that keeps to this. Most rows hold no two large neighbours,
so little of the 8 bits is lost, where weights in 7 bits (the usual advice) lose one whole bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy as np
    from onnx import GraphProto, NodeProto

LARGEST = 127  # also of a pair before it is rounded: each of the two can then gain a half at most


def safe_scales(weight: np.ndarray, neighbours: bool) -> np.ndarray:
    """weight: [K, N] float32, in the order in which it is multiplied -> a scale for each of N, positive float32.

    neighbours: the runtime adds inputs 2k and 2k + 1, as it does in matrix products. False: any two, for convolutions,
    whose kernels order a window in more than one way.
    """
    import numpy as np

    inputs, largest = weight.shape[0], np.abs(weight).max(0)
    for one_sign in (np.maximum(weight, 0), np.maximum(-weight, 0)):
        if neighbours:
            pairs = np.pad(one_sign, ((0, inputs % 2), (0, 0))).reshape(-1, 2, weight.shape[1]).sum(1)
            largest = np.maximum(largest, pairs.max(0))
        elif inputs > 1:
            largest = np.maximum(largest, np.partition(one_sign, inputs - 2, axis=0)[-2:].sum(0))
    scales: np.ndarray = np.maximum(largest / LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
    return scales


def overrides(graph: GraphProto, nodes: Collection[NodeProto]) -> dict[str, list[dict[str, Any]]]:
    """What the runtime's quantizers take as TensorQuantOverrides: the scales of the weights of these nodes."""
    import numpy as np
    from onnx import numpy_helper

    constants = {t.name: t for t in graph.initializer}
    found = {}
    for node in nodes:
        weight = numpy_helper.to_array(constants[node.input[1]])
        axis = 0 if node.op_type == "Conv" or is_transposed(node) else weight.ndim - 1
        matrix = np.moveaxis(weight, axis, -1).reshape(-1, weight.shape[axis])
        scales = safe_scales(matrix, neighbours=node.op_type != "Conv")
        found[node.input[1]] = [{"axis": axis, "scale": s, "zero_point": np.int8(0)} for s in scales]
    return found


def is_transposed(node: NodeProto) -> bool:
    """Whether a Gemm takes its weight as [N, K]."""
    return node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)


def transpose_constants(graph: GraphProto, nodes: Collection[NodeProto]) -> None:
    """Gives every Gemm of `nodes` its weight as [K, N], under the same name."""
    from onnx import numpy_helper

    constants = {t.name: t for t in graph.initializer}
    for node in filter(is_transposed, nodes):
        tensor = constants[node.input[1]]
        turned = numpy_helper.to_array(tensor).T.copy()
        tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
        for attribute in node.attribute:
            if attribute.name == "transB":
                attribute.i = 0
    turned_names = {node.input[1] for node in nodes}
    stale = [value for value in graph.value_info if value.name in turned_names]
    for value in stale:
        graph.value_info.remove(value)
