"""What is in an .onnx file, and whether it is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import Contents, OperatorCount, TensorInfo, WeightBytes
from wdp_edge.targets.shared.contents import AGAIN, check_exists, stored_weights

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto, TensorProto, ValueInfoProto

_FREE = -1
_STANDARD = ("", "ai.onnx")
NO_TEXT = "a name in it is not text"


def unsound(path: Path, reason: str) -> InputError:
    """The error for a file that is not a model, or no longer one."""
    short = reason.strip().splitlines()[0].rstrip(".") if reason.strip() else "it has no graph"
    return InputError(f"{path} is not a sound ONNX model: {short}.", AGAIN)


def read(path: Path) -> ModelProto:
    """The file's contents, checked.

    Raises InputError when it is missing, damaged, something else, or leaves its weights to other files, which no export
    of ours does and no checksum of ours covers.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import uses_external_data

    check_exists(path)
    try:
        model = onnx.load(path, load_external_data=False)
        if any(uses_external_data(tensor) for tensor in model.graph.initializer):
            raise unsound(path, "its weights are in other files")
        onnx.checker.check_model(str(path))  # not of `model`, which would be written out again
    except UnicodeDecodeError as error:  # the checker's message quotes the file's own bytes
        raise unsound(path, NO_TEXT) from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise unsound(path, str(error)) from error
    if not _all_texts(model):
        raise unsound(path, NO_TEXT)
    if unknown := next(_unknown_attributes(model), None):
        raise unsound(path, unknown)
    return model


def _unknown_attributes(model: ModelProto) -> Iterator[str]:
    """What attributes of ONNX's own operators its definitions do not name.

    Runtimes ignore them, so that an operator whose attribute has another name computes something else. The checker lets
    them pass for operators that are defined by others, LayerNormalization among them.
    """
    from onnx.defs import SchemaError, get_schema

    version = max((o.version for o in model.opset_import if o.domain in _STANDARD), default=1)
    for node in model.graph.node:
        if node.domain not in _STANDARD:
            continue
        try:
            known = get_schema(node.op_type, version, "").attributes
        except SchemaError:
            continue
        for attribute in node.attribute:
            if attribute.name not in known:
                yield f"Unrecognized attribute: {attribute.name} for operator {node.op_type}"


def _all_texts(message: Message) -> bool:
    """Whether every text of a message is UTF-8: protobuf returns bytes for one that is not."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == field.TYPE_MESSAGE and not all(map(_all_texts, values)):
            return False
        if field.type == field.TYPE_STRING and any(isinstance(text, bytes) for text in values):
            return False
    return True


def contents(model: ModelProto) -> Contents:
    """What `inspect` says about a model."""
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    kinds = Counter(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in graph.node)
    return Contents(
        inputs=tuple(tensor_info(v) for v in graph.input if v.name not in constants),
        outputs=tuple(tensor_info(v) for v in graph.output),
        operators=tuple(OperatorCount(kind, count, 0) for kind, count in kinds.most_common()),
        weights=weights_of(graph.initializer),
        delegates=0,
        metadata={p.key: p.value for p in model.metadata_props},
    )


def tensor_info(value: ValueInfoProto) -> TensorInfo:
    """Name, shape and type of an input or output; an axis of free length is -1."""
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else _FREE for axis in kind.shape.dim)
    return TensorInfo(value.name, shape, tensor_dtype_to_np_dtype(kind.elem_type).name)


def weights_of(constants: Iterable[TensorProto]) -> tuple[WeightBytes, ...]:
    """All constants by type, scales and shapes among them; the largest share first."""
    from onnx.helper import tensor_dtype_to_np_dtype

    typed = ((tensor, tensor_dtype_to_np_dtype(tensor.data_type)) for tensor in constants)
    return stored_weights((dtype.name, len(t.raw_data) or prod(t.dims) * dtype.itemsize) for t, dtype in typed)
