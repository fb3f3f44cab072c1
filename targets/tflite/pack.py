"""Writes a .tflite from the schema's objects: weights inside the FlatBuffer and aligned, texts in its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wdp_edge.targets.tflite.file import CONV_2D, FLOAT32, FULLY_CONNECTED, IDENTIFIER, INT8

_ALIGNMENT = 16  # what the schema promises the kernels
# First versions of these operators that know float inputs with int8 weights scaled per channel. Runtimes that
# are too old refuse the file when it says so, instead of computing something else.
_HYBRID_VERSIONS = {FULLY_CONNECTED: 12, CONV_2D: 5}


def unpack(data: bytes | bytearray) -> Any:
    """The file as a `ModelT` whose buffers all hold their bytes: uint8 arrays, views of `data`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def pack(model: Any, metadata: Mapping[str, str]) -> bytes:
    """A .tflite with these texts in its metadata. model: a `ModelT` as `unpack` gives it; the texts are added to it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        """The generated code does not align bytes, though the schema asks for it."""

        def Pack(self, builder: Any) -> Any:
            start = None if self.data is None or len(self.data) == 0 else aligned(builder, self.data)
            schema.BufferStart(builder)
            if start is not None:
                schema.BufferAddData(builder, start)
            return schema.BufferEnd(builder)

    for name, text in metadata.items():
        model.metadata = [*(model.metadata or []), schema.MetadataT(name.encode(), len(model.buffers))]
        model.buffers.append(schema.BufferT(np.frombuffer(text.encode(), np.uint8)))
    model.buffers = [AlignedBuffer(b.data) for b in model.buffers]
    builder = flatbuffers.Builder(sum(len(b.data) for b in model.buffers if b.data is not None) + (1 << 20))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def aligned(builder: Any, data: np.ndarray) -> Any:
    """Writes a vector of bytes whose first byte is aligned; gives its offset. data: [n] uint8."""
    builder.StartVector(1, len(data), _ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data.tobytes()
    return builder.EndVector()


def state_versions(model: Any) -> None:
    """Raises the versions of operators that quantization turned into hybrid ones."""
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.builtinCode not in _HYBRID_VERSIONS:
                continue
            x, weight = (graph.tensors[i] for i in operator.inputs[:2])
            if x.type == FLOAT32 and weight.type == INT8:
                code.version = max(code.version, _HYBRID_VERSIONS[code.builtinCode])
