"""A Core ML package on disk, checked before anything trusts it.

The folder holds a manifest, a model (protobuf with an ML program) and a file of weights. Toolkits follow the manifest's
paths and the model's offsets without a second look, so both are looked at here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import WeightBytes
from wdp_edge.targets.shared.contents import AGAIN, check_exists, stored_weights
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

FUNCTION = "main"
_PALETTE = "constexpr_lut_to_dense"
_DATA, _WEIGHTS = "Data", "@model_path/weights/"
_FOREIGN = "Give a .mlpackage that wdp-edge export wrote."
_RECORD = struct.Struct("<IIQQ")  # sentinel, data type, bytes, where they begin
_SENTINEL = 0xDEADBEEF
_BITS = {
    "FLOAT16": 16, "FLOAT32": 32, "INT4": 4, "INT8": 8, "INT16": 16, "INT32": 32, "UINT1": 1, "UINT2": 2, "UINT3": 3,
    "UINT4": 4, "UINT6": 6, "UINT8": 8, "UINT16": 16, "UINT32": 32,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in the file of weights. op: the kind of operation that reads it. dtype: as the format calls it."""

    op: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    offset: int

    @property
    def bytes(self) -> int:
        return -(-prod(self.shape) * _BITS[self.dtype] // 8)


@dataclass(frozen=True)
class Package:
    """model: the parsed protobuf (Model). weights: the folder beside it."""

    path: Path
    model: Any
    weights: Path

    @property
    def function(self) -> Any:
        """The protobuf of the ML program's one function."""
        return self.model.mlProgram.functions[FUNCTION]

    @property
    def operations(self) -> Any:
        return self.function.block_specializations[self.function.opset].operations


def read_package(path: Path) -> Package:
    """The package at `path`, with every tensor of its file of weights known to be there.

    Raises InputError when it is missing, cut short, no Core ML package, or points outside its own folder.
    """
    check_exists(path, folder=True)
    file = model_file(path)
    model = parse(path, file)
    package = Package(path, model, file.parent / "weights")
    if (
        FUNCTION not in model.mlProgram.functions
        or package.function.opset not in package.function.block_specializations
    ):
        raise InputError(f"{path} holds no ML program with a function '{FUNCTION}'.", _FOREIGN)
    for tensor in stored_tensors(package):
        check_stored(package, tensor)
    return package


def model_file(path: Path) -> Path:
    """Where the manifest says the model is."""
    try:
        manifest = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a Core ML package: its Manifest.json is missing or broken.", _FOREIGN
        ) from error
    return inside(path, str(item))


def inside(path: Path, item: str) -> Path:
    """The file `item` of the package's data. Raises InputError when it is elsewhere or missing."""
    data = (path / _DATA).resolve()
    found = (data / item).resolve()
    if not found.is_relative_to(data):
        raise InputError(f"{path} is not sound: it points to '{item}', outside its folder.", _FOREIGN)
    if not found.is_file():
        raise InputError(f"{path} is incomplete: {found.name} is missing.", f"Copy the whole folder. {AGAIN}")
    return found


def parse(path: Path, file: Path) -> Any:
    """The protobuf of the model."""
    with quiet(), silent_stderr():
        from coremltools.proto import Model_pb2
        from google.protobuf.message import DecodeError
    model = Model_pb2.Model()
    try:
        model.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise InputError(f"{path} is damaged: {file.name} cannot be parsed.", AGAIN) from error
    if model.WhichOneof("Type") != "mlProgram":
        raise InputError(f"{path} holds no ML program.", _FOREIGN)
    return model


def stored_tensors(package: Package) -> Iterator[StoredTensor]:
    """Every tensor that the program reads from the file of weights."""
    from coremltools.proto import MIL_pb2

    for operation in package.operations:
        arguments = [b.value for a in operation.inputs.values() for b in a.arguments if b.HasField("value")]
        for value in [*operation.attributes.values(), *arguments]:
            if value.WhichOneof("value") == "blobFileValue":
                tensor, blob = value.type.tensorType, value.blobFileValue
                shape = tuple(int(d.constant.size) for d in tensor.dimensions)
                known = tensor.dataType in MIL_pb2.DataType.values()
                dtype = MIL_pb2.DataType.Name(tensor.dataType) if known else f"type {tensor.dataType}"
                yield StoredTensor(operation.type, dtype, shape, blob.fileName, int(blob.offset))


def check_stored(package: Package, tensor: StoredTensor) -> None:
    """Raises InputError unless the file of weights holds the tensor whole, where the program expects it."""
    name = tensor.file.removeprefix(_WEIGHTS)
    if not tensor.file.startswith(_WEIGHTS) or "/" in name or name in ("", ".", "..") or tensor.dtype not in _BITS:
        raise InputError(f"{package.path} is not sound: it reads weights from '{tensor.file}'.", _FOREIGN)
    data = (package.path / _DATA).resolve()
    file = inside(package.path, (package.weights.relative_to(data) / name).as_posix())
    with file.open("rb") as weights:
        weights.seek(tensor.offset)
        head = weights.read(_RECORD.size)
    sentinel, _, size, start = _RECORD.unpack(head) if len(head) == _RECORD.size else (0, 0, 0, 0)
    if len(head) == _RECORD.size and sentinel == _SENTINEL and size == tensor.bytes:
        if start + size <= file.stat().st_size:
            return
        reason = "is cut short"
    else:
        reason = "is cut short or damaged"
    raise InputError(f"{package.path} {reason}: its {name} lacks weights that the program reads.", AGAIN)


def weights_of(package: Package) -> tuple[WeightBytes, ...]:
    """Tensors in the file of weights by how they are stored: indices into a table of 2^n values are palette<n>."""

    def form(tensor: StoredTensor) -> str:
        dtype = tensor.dtype.lower()
        return dtype.replace("uint", "palette") if tensor.op == _PALETTE else dtype

    return stored_weights((form(tensor), tensor.bytes) for tensor in stored_tensors(package))
