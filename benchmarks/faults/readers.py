"""Readers of our own for every format that is mutated: what a file says, found without the product's readers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np

_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
_STORAGES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
}  # fmt: skip


def safetensors(data: bytes) -> dict[str, np.ndarray]:
    """By the format's description: eight bytes of length, a JSON header, and bytes that it cuts into tensors."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    body, found = data[8 + size :], {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        found[name] = np.frombuffer(body[begin:end], _NUMPY[entry["dtype"]]).reshape(entry["shape"])
    return found


def torch_zip(data: bytes) -> dict[str, np.ndarray]:
    """A torch.save archive: a pickle that may only name tensors, and one file of bytes per storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        folder = name.removesuffix("data.pkl")

        class Reader(pickle.Unpickler):
            def persistent_load(self, pid: Any) -> np.ndarray:
                _, kind, key, _, count = pid
                return np.frombuffer(archive.read(f"{folder}data/{key}"), _STORAGES[kind])[:count]

            def find_class(self, module: str, name: str) -> Any:
                if name.endswith("Storage"):
                    return name
                return {"_rebuild_tensor_v2": _tensor, "OrderedDict": OrderedDict}[name]

        return dict(Reader(io.BytesIO(archive.read(name))).load())


def _tensor(storage: np.ndarray, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    steps = [n * storage.itemsize for n in stride]
    if shape and offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) >= len(storage):
        raise ValueError("beyond the storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field of a protobuf message: an integer, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: Any
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("a kind of field that is no longer used")
        if at > len(data):
            raise ValueError("a field is longer than its message")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number without an end")


def inside(data: bytes, *path: int) -> Iterator[Any]:
    """The values of the fields along a path of field numbers."""
    for number, value in fields(data):
        if number == path[0]:
            yield from inside(value, *path[1:]) if len(path) > 1 else (value,)


def onnx_operators(data: bytes) -> int:
    """ModelProto.graph.node"""
    return sum(1 for _ in inside(data, 7, 1))


def mil_operators(data: bytes) -> int:
    """Model.mlProgram.functions[].block_specializations[].operations, without constants."""
    operations = inside(data, 502, 2, 2, 3, 2, 3)
    return sum(1 for operation in operations if next(iter(inside(operation, 1)), b"") != b"const")


class Table:
    """A table of a FlatBuffer, without any check: whatever is out of place raises struct.error."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.fields = at - struct.unpack_from("<i", data, at)[0]

    def place(self, field: int) -> int:
        """Where a field is; 0 where the table has none."""
        size = struct.unpack_from("<H", self.data, self.fields)[0]
        offset = struct.unpack_from("<H", self.data, self.fields + 4 + 2 * field)[0] if 4 + 2 * field < size else 0
        return self.at + offset if offset else 0

    def tables(self, field: int) -> list[Table]:
        """A vector of tables; empty where the table has none."""
        if not (place := self.place(field)):
            return []
        start = place + struct.unpack_from("<I", self.data, place)[0]
        count = struct.unpack_from("<I", self.data, start)[0]
        spots = [start + 4 + 4 * i for i in range(count)]
        return [Table(self.data, s + struct.unpack_from("<I", self.data, s)[0]) for s in spots]


def root(data: bytes) -> Table:
    """Where a FlatBuffer begins."""
    return Table(data, struct.unpack_from("<I", data)[0])


def tflite_operators(data: bytes) -> int:
    """Model.subgraphs[].operators"""
    return sum(len(graph.tables(3)) for graph in root(data).tables(2))


def pte_delegates(data: bytes) -> int:
    """Program.execution_plan[0].delegates"""
    return len(root(data).tables(1)[0].tables(7))


def png(data: bytes) -> np.ndarray:
    """[H, W, 3] uint8 of a PNG of 8-bit RGB: checked, inflated, unfiltered."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    at, raw, head = 8, b"", b""
    unpack = zlib.decompressobj()
    while not unpack.eof:  # what follows the pixels, such as the end chunk, may be cut off
        size, kind = struct.unpack_from(">I4s", data, at)
        chunk = data[at + 8 : at + 8 + size]
        at += 12 + size
        if kind == b"IHDR":
            head = chunk
        elif kind == b"IDAT":
            raw += unpack.decompress(chunk)
    width, height, depth, colour = struct.unpack_from(">IIBB", head)
    if (depth, colour) != (8, 2):
        raise ValueError("not 8-bit RGB")
    step = 3
    lines, before = [], bytearray(width * step)
    for row in range(height):
        kind, line = raw[row * (width * step + 1)], bytearray(raw[row * (width * step + 1) + 1 :][: width * step])
        for i in range(len(line)):
            left, up, corner = (line[i - step] if i >= step else 0), before[i], (before[i - step] if i >= step else 0)
            line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]) & 255
        lines.append(line)
        before = line
    return np.frombuffer(b"".join(lines), np.uint8).reshape(height, width, 3)


def paeth(left: int, up: int, corner: int) -> int:
    """Whichever is nearest to left + up - corner, by PNG's description."""
    guess = left + up - corner
    return min((left, up, corner), key=lambda value: abs(guess - value))


def same(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """ "" when two sets of tensors are equal, not-a-numbers included."""
    if found.keys() != wanted.keys():
        return f"other tensors: {sorted(found.keys() ^ wanted.keys())[:3]}"
    for name, value in wanted.items():
        if not np.array_equal(np.asarray(found[name], np.float64), np.asarray(value, np.float64), equal_nan=True):
            return f"{name} has other values"
    return ""
