"""What a .tflite file holds, read with the standard library alone, and whether all of it lies inside the file.

The runtimes trust every offset and size they find, so a file is read through once before one of them sees it. The
numbers of fields are those of TFLite's schema, which only ever grows.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar

from wdp_edge.errors import InputError
from wdp_edge.targets.shared.contents import COPY_AGAIN, check_exists

IDENTIFIER = b"TFL3"
FULLY_CONNECTED, CONV_2D = 9, 3
FLOAT32, INT8 = 0, 9
# TensorType -> its name in numpy, and bits of one element.
TYPES = {
    0: ("float32", 32),
    1: ("float16", 16),
    2: ("int32", 32),
    3: ("uint8", 8),
    4: ("int64", 64),
    6: ("bool", 8),
    7: ("int16", 16),
    8: ("complex64", 64),
    9: ("int8", 8),
    10: ("float64", 64),
    11: ("complex128", 128),
    12: ("uint64", 64),
    15: ("uint32", 32),
    16: ("uint16", 16),
    17: ("int4", 4),
    18: ("bfloat16", 16),
}
_MOST = 1 << 24  # no model has more entries than this in one list of tables
_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorRecord:
    """kind: TensorType. data: bytes of a constant, 0 for a tensor that is computed. scales: of its quantization."""

    name: str
    shape: tuple[int, ...]
    kind: int
    buffer: int
    data: int
    scales: int

    @property
    def dtype(self) -> str:
        return TYPES[self.kind][0] if self.kind in TYPES else f"type {self.kind}"


@dataclass(frozen=True)
class OperatorRecord:
    """kind: BuiltinOperator. inputs: indices of tensors, -1 for one that is left out."""

    kind: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class GraphRecord:
    tensors: tuple[TensorRecord, ...]
    operators: tuple[OperatorRecord, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def hybrid_per_channel(self) -> bool:
        """Whether a linear layer has float input and int8 weights with a scale for every channel."""
        return any(
            o.kind == FULLY_CONNECTED
            and self.tensors[o.inputs[0]].kind == FLOAT32
            and self.tensors[o.inputs[1]].kind == INT8
            and self.tensors[o.inputs[1]].scales > 1
            for o in self.operators
        )


@dataclass(frozen=True)
class FileRecord:
    """metadata: name -> bytes. The first graph is the one that runs."""

    graphs: tuple[GraphRecord, ...]
    metadata: dict[str, bytes]


class _Damaged(Exception):
    """Something points outside the file or contradicts something else."""


class _Table:
    """A table of a FlatBuffer: fields by number, every access checked against the file's end."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data, self._at = data, at
        self._fields_at = at - self._read("<i", at)
        self._fields = (self._read("<H", self._fields_at) - 4) // 2

    def _read(self, form: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(form) > len(self._data):
            raise _Damaged("an offset leads outside the file")
        return int(struct.unpack_from(form, self._data, at)[0])

    def _place(self, field: int) -> int:
        """Where the field is; 0 when it is left out."""
        if field >= self._fields:
            return 0
        offset = self._read("<H", self._fields_at + 4 + 2 * field)
        return self._at + offset if offset else 0

    def number(self, field: int, form: str, default: int = 0) -> int:
        place = self._place(field)
        return self._read(form, place) if place else default

    def table(self, field: int) -> _Table | None:
        place = self._place(field)
        return _Table(self._data, place + self._read("<I", place)) if place else None

    def vector(self, field: int, width: int) -> tuple[int, int]:
        """First byte and number of entries of a vector whose entries have `width` bytes; (0, 0) when left out."""
        place = self._place(field)
        if not place:
            return 0, 0
        start = place + self._read("<I", place)
        count = self._read("<I", start)
        if start + 4 + count * width > len(self._data):
            raise _Damaged("a list is longer than the file")
        return start + 4, count

    def integers(self, field: int) -> tuple[int, ...]:
        start, count = self.vector(field, 4)
        return struct.unpack_from(f"<{count}i", self._data, start)

    def text(self, field: int) -> str:
        start, count = self.vector(field, 1)
        try:
            return self._data[start : start + count].decode()
        except UnicodeDecodeError as error:
            raise _Damaged("a name in it is not text") from error

    def tables(self, field: int) -> Iterator[_Table]:
        start, count = self.vector(field, 4)
        if count > _MOST:
            raise _Damaged("a list is longer than any model's")
        for place in range(start, start + 4 * count, 4):
            yield _Table(self._data, place + self._read("<I", place))


def read_file(path: Path) -> FileRecord:
    """Everything that `FileRecord` names.

    Raises InputError when the file is missing, is not a .tflite, was cut short or contradicts itself.
    """
    return _with_bytes(path, lambda data: _record(data, _Table(data, struct.unpack_from("<I", data, 0)[0])))


def _with_bytes(path: Path, read: Callable[[mmap.mmap], _T]) -> _T:
    check_exists(path)
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or head[4:] != IDENTIFIER:
            raise InputError(f"{path} is not a TFLite model.", "Give a .tflite that wdp-edge export wrote.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return read(data)
            except _Damaged as error:
                raise InputError(f"{path} is cut short or damaged: {error}.", COPY_AGAIN) from error


def _record(data: mmap.mmap, model: _Table) -> FileRecord:
    buffers = [_buffer(data, b) for b in model.tables(4)]
    kinds = [_kind(c) for c in model.tables(1)]
    graphs = tuple(_graph(g, buffers, kinds) for g in model.tables(2))
    if not graphs:
        raise _Damaged("it has no graph")
    metadata = {}
    for entry in model.tables(6):
        start, size = _at(buffers, entry.number(1, "<I"), "buffer")
        metadata[entry.text(0)] = data[start : start + size]
    for signature in model.tables(7):
        tensors = _at(graphs, signature.number(4, "<I"), "graph").tensors
        for item in (*signature.tables(0), *signature.tables(1)):
            _at(tensors, item.number(1, "<I"), "tensor")
    return FileRecord(graphs, metadata)


def _kind(code: _Table) -> int:
    code.text(1)  # the name of an operator that is not TFLite's own; the runtime reads it
    return max(code.number(0, "<b"), code.number(3, "<i"))


def _at(items: tuple[_T, ...] | list[_T], index: int, what: str) -> _T:
    if not 0 <= index < len(items):
        raise _Damaged(f"it names a {what} that it does not have")
    return items[index]


def _buffer(data: mmap.mmap, buffer: _Table) -> tuple[int, int]:
    """First byte and size; the bytes of a large model may stand behind the FlatBuffer."""
    offset, size = buffer.number(1, "<Q"), buffer.number(2, "<Q")
    if offset <= 1:
        return buffer.vector(0, 1)
    if offset + size > len(data):
        raise _Damaged("weights lie behind its end")
    return offset, size


def _graph(graph: _Table, buffers: list[tuple[int, int]], kinds: list[int]) -> GraphRecord:
    tensors = tuple(_tensor(t, buffers) for t in graph.tables(0))
    operators = tuple(_operator(o, tensors, kinds) for o in graph.tables(3))
    inputs, outputs = graph.integers(1), graph.integers(2)
    for index in (*inputs, *outputs):
        _at(tensors, index, "tensor")
    return GraphRecord(tensors, operators, inputs, outputs)


def _operator(operator: _Table, tensors: tuple[TensorRecord, ...], kinds: list[int]) -> OperatorRecord:
    inputs, outputs = operator.integers(1), operator.integers(2)
    for index in (*inputs, *outputs):
        if index != -1:
            _at(tensors, index, "tensor")
    kind = _at(kinds, operator.number(0, "<I"), "operator")
    if kind in (FULLY_CONNECTED, CONV_2D) and (len(inputs) < 2 or min(inputs[:2]) < 0):
        raise _Damaged("a layer lacks its weights")
    return OperatorRecord(kind, inputs, outputs)


def _tensor(tensor: _Table, buffers: list[tuple[int, int]]) -> TensorRecord:
    shape, kind, buffer = tensor.integers(0), tensor.number(1, "<b"), tensor.number(2, "<I")
    size = _at(buffers, buffer, "buffer")[1] if buffer else 0
    if min(shape, default=1) < 0:
        raise _Damaged("a tensor has a negative size")
    sparse = tensor.table(6) is not None
    if size and kind in TYPES and not sparse and size != (prod(shape) * TYPES[kind][1] + 7) // 8:
        raise _Damaged("a tensor's bytes do not fit its shape")
    quantization = tensor.table(4)
    scales = quantization.vector(2, 4)[1] if quantization else 0
    return TensorRecord(tensor.text(3), shape, kind, buffer, size, scales)
