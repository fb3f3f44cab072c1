"""What a GPU that computes in 16-bit floats makes of a .tflite: the file with all that it computes rounded to float16.

Products add up in float32 and their results are rounded, as ML Drift, LiteRT's GPU accelerator, does it. The CPU's
runtime computes the casts; what stands for a GPU here may have no 16-bit floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wdp_edge.targets.tflite.pack import pack, unpack


def rounded(data: bytes) -> bytes:
    """The same graph with a cast to float16 and back behind every float32 input and result. data: of a .tflite."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(data)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CAST
    model.operatorCodes.append(code)
    operators: list[Any] = []
    narrowed: dict[int, int] = {}

    def cast(tensor: int, kind: int) -> int:
        source, made, operator = graph.tensors[tensor], schema.TensorT(), schema.OperatorT()
        made.shape, made.type, made.name = source.shape, kind, source.name + b";rounded%d" % len(graph.tensors)
        graph.tensors.append(made)
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs = np.array([tensor], np.int32)
        operator.outputs = np.array([len(graph.tensors) - 1], np.int32)
        operator.builtinOptionsType = schema.BuiltinOptions.CastOptions
        operator.builtinOptions = schema.CastOptionsT()
        operator.builtinOptions.inDataType, operator.builtinOptions.outDataType = source.type, kind
        operators.append(operator)
        return len(graph.tensors) - 1

    def narrow(tensors: Any) -> None:
        for tensor in map(int, tensors):
            if graph.tensors[tensor].type == schema.TensorType.FLOAT32:
                half = cast(tensor, schema.TensorType.FLOAT16)
                narrowed[tensor] = cast(half, schema.TensorType.FLOAT32)

    def current(tensors: Any) -> Any:
        return np.array([narrowed.get(int(tensor), int(tensor)) for tensor in tensors], np.int32)

    narrow(graph.inputs)
    for operator in graph.operators:
        operator.inputs = current(operator.inputs)
        operators.append(operator)
        narrow(operator.outputs)
    graph.operators, graph.outputs = operators, current(graph.outputs)
    for signature in model.signatureDefs or ():
        for output in signature.outputs:
            output.tensorIndex = narrowed.get(int(output.tensorIndex), int(output.tensorIndex))
    return pack(model, {})
