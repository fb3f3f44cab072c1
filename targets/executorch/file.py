"""Reading a .pte as plain data, its program and the graphs of the XNNPACK delegates in it; and what is inside.

ExecuTorch's flatc decodes them, in a process of its own: it trusts a damaged file and may crash. ExecuTorch's Python
reader would import the exporter first, which takes seconds.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import Contents, OperatorCount, TensorInfo
from wdp_edge.targets.executorch.edge import METADATA_PREFIX
from wdp_edge.targets.shared.contents import AGAIN, COPY_AGAIN, check_exists, stored_weights
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

METHOD = "forward"
HEADER = struct.Struct("<4s4s4sIQQQ")  # root offset, file identifier, then the extended header

_SECONDS = 60
_INFINITE = re.compile(r":\s*(-?)inf\b")
_GRAPH_HEADER = struct.Struct("<4x4sHIIIQ")  # magic, its own size, then where graph and constants begin and how long
XNNPACK = "XnnpackBackend"
_DTYPES = {
    "BYTE": "uint8", "CHAR": "int8", "SHORT": "int16", "INT": "int32", "LONG": "int64", "HALF": "float16",
    "FLOAT": "float32", "DOUBLE": "float64", "BOOL": "bool",
}  # fmt: skip
_STORED = {
    "fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "qint8": "int8", "quint8": "uint8", "qcint8": "int8",
    "qint32": "int32", "qcint32": "int32", "qcint4": "int4", "qbint4": "int4",
}  # fmt: skip
_SCALES = {"PerChannelQuant": "float32", "PerChannelGroupQuant": "bfloat16"}


@dataclass(frozen=True)
class PteFile:
    """program: as in ExecuTorch's program.fbs. segments: the bytes that follow it."""

    path: Path
    program: Any
    segments: bytes

    @property
    def plan(self) -> Any:
        """The method that runs the model. Raises InputError when there is none."""
        for plan in self.program["execution_plan"]:
            if plan["name"] == METHOD:
                return plan
        raise InputError(f"{self.path} has no method '{METHOD}'.", "Give a .pte that wdp-edge export wrote.")

    def delegate_bytes(self, delegate: Any) -> bytes:
        """What a delegate of the plan was compiled to."""
        place = delegate["processed"]
        if place["location"] == "INLINE":
            return bytes(self.program["backend_delegate_data"][place["index"]]["data"])
        segment = self.program["segments"][place["index"]]
        return self.segments[segment["offset"] : segment["offset"] + segment["size"]]


def read(path: Path) -> PteFile:
    """The file, after ExecuTorch's runtime has verified it.

    Raises InputError when it is missing, cut short, damaged, or not a .pte.
    """
    open_program(path)
    data = path.read_bytes()
    *_, program_bytes, segments_at, _ = HEADER.unpack_from(data)
    return PteFile(path, decode(data[:program_bytes], "schema/program.fbs", path), data[segments_at:])


def graph_of(delegate: bytes, path: Path) -> Any:
    """The graph of an XNNPACK delegate, as in ExecuTorch's schema of it.

    Raises InputError when it is damaged. path: of the file it comes from.
    """
    if len(delegate) < _GRAPH_HEADER.size:
        raise damaged(path, "an XNNPACK delegate is too short")
    magic, _, start, size, *_ = _GRAPH_HEADER.unpack_from(delegate)
    if magic != b"XH00":
        raise damaged(path, "an XNNPACK delegate has no header")
    return decode(delegate[start : start + size], "backends/xnnpack/serialization/schema.fbs", path)


def decode(flatbuffer: bytes, schema: str, path: Path) -> Any:
    """A flatbuffer as plain data. schema: inside the executorch package. path: of the file it comes from.

    Raises InputError when it is damaged.
    """
    if not has_root(flatbuffer):
        raise damaged(path, "its structure cannot be read")
    spec = find_spec("executorch")
    package = Path(next(iter((spec and spec.submodule_search_locations) or [])))
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "flatbuffer.bin"
        binary.write_bytes(flatbuffer)
        flatc = str(package / "data/bin/flatc")
        command = [flatc, "--json", "--defaults-json", "--strict-json", "-o", folder]
        try:
            subprocess.run(
                [*command, str(package / schema), "--", str(binary)], check=True, capture_output=True, timeout=_SECONDS
            )
            text = binary.with_suffix(".json").read_text(encoding="utf-8")
            return json.loads(_INFINITE.sub(r": \1Infinity", text))  # a ReLU's upper bound is written `inf`
        except (subprocess.SubprocessError, FileNotFoundError, ValueError) as error:
            raise damaged(path, "its structure cannot be read") from error


def has_root(flatbuffer: bytes) -> bool:
    """Whether the first table lies inside, with all its fields. flatc does not look, and reads whatever is there."""
    size = len(flatbuffer)
    try:
        (root,) = struct.unpack_from("<I", flatbuffer)
        fields = root - struct.unpack_from("<i", flatbuffer, root)[0]
        if fields < 0:
            return False
        own, table = struct.unpack_from("<HH", flatbuffer, fields)
        places = struct.unpack_from(f"<{max(0, own - 4) // 2}H", flatbuffer, fields + 4)
    except struct.error:
        return False
    return own >= 4 and own % 2 == 0 and root + table <= size and all(place < table for place in places)


def damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is damaged: {reason}.", AGAIN)


def open_program(path: Path, threads: int = 1) -> Any:
    """The program, verified but not yet set up to run.

    Raises InputError when the file is missing, cut short, damaged, or not a .pte.
    """
    check_file(path)
    with quiet(), silent_stderr() as said:
        # executorch.runtime is a thin layer over this, but imports the exporter: 3 s for every worker.
        from executorch.extension.pybindings import _C

        _C._unsafe_reset_threadpool(threads)
        try:
            return _C._load_program(str(path), program_verification=_C.Verification.InternalConsistency)
        except (RuntimeError, MemoryError) as error:
            raise not_loaded(path, said(), error) from error


def not_loaded(path: Path, said: str, error: Exception) -> InputError:
    reason = (said or str(error)).strip().splitlines()[-1]
    return InputError(f"ExecuTorch cannot load {path}: {reason}.", AGAIN)


def check_file(path: Path) -> None:
    """Raises InputError unless the file has a .pte header and every byte that the header promises.

    The runtime trusts these sizes: it would read beyond the end of a file that was cut short.
    """
    check_exists(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or head[4:6] != b"ET" or head[8:12] != b"eh00":
        raise InputError(f"{path} is not an ExecuTorch program.", "Give a .pte that wdp-edge export wrote.")
    *_, program_bytes, segments_at, segments_bytes = HEADER.unpack(head)
    expected = segments_at + segments_bytes if segments_at else program_bytes
    if size < max(expected, program_bytes):
        raise InputError(
            f"{path} is cut short: {size} bytes of {max(expected, program_bytes)}.",
            COPY_AGAIN,
        )


@dataclass
class Tally:
    """What was counted so far. weights: type and bytes by the constant's key, so that shared ones count once."""

    outside: Counter[str] = field(default_factory=Counter)
    inside: Counter[str] = field(default_factory=Counter)
    weights: dict[Any, tuple[str, int]] = field(default_factory=dict)

    def operators(self) -> tuple[OperatorCount, ...]:
        both = self.outside + self.inside
        return tuple(OperatorCount(kind, count, self.inside[kind]) for kind, count in both.most_common())


def contents(path: Path) -> Contents:
    """What is inside the .pte. Operators in a delegate have the delegate's names.

    Raises InputError when the file is missing, cut short, damaged, or not a .pte.
    """
    file = read(path)
    try:
        return described(file)
    except LookupError as error:
        raise damaged(path, f"it refers to something that is not there ({error})") from error


def described(file: PteFile) -> Contents:
    """What a sound file holds, inside its delegates too."""
    plan, tally = file.plan, Tally()
    tally.outside.update(kernel_calls(plan))
    tally.weights.update(constants(plan))
    for number, delegate in enumerate(plan["delegates"]):
        if delegate["id"] == XNNPACK:
            count_graph(graph_of(file.delegate_bytes(delegate), file.path), number, tally)
    return Contents(
        inputs=tuple(tensors(plan, plan["inputs"], "input")),
        outputs=tuple(tensors(plan, plan["outputs"], "output")),
        operators=tally.operators(),
        weights=stored_weights(tally.weights.values()),
        delegates=len(plan["delegates"]),
        metadata=metadata_of(file),
    )


def metadata_of(file: PteFile) -> dict[str, str]:
    """The texts that the methods called metadata_<key> return."""
    texts = {}
    for plan in file.program["execution_plan"]:
        returned = [plan["values"][place] for place in plan["outputs"]]
        if plan["name"].startswith(METADATA_PREFIX) and len(returned) == 1 and returned[0]["val_type"] == "String":
            texts[plan["name"].removeprefix(METADATA_PREFIX)] = returned[0]["val"]["string_val"]
    return texts


def tensors(plan: Any, places: Iterable[int], name: str) -> Iterator[TensorInfo]:
    """Inputs or outputs. The format has no names for them: `name`, numbered where there are several."""
    found = [plan["values"][place]["val"] for place in places]
    for number, value in enumerate(found):
        label = name if len(found) == 1 else f"{name}_{number}"
        yield TensorInfo(label, tuple(value["sizes"]), _DTYPES[value["scalar_type"]])


def kernel_calls(plan: Any) -> Iterator[str]:
    """Names of the operators that run outside of delegates, such as aten::expand_copy."""
    for chain in plan["chains"]:
        for instruction in chain.get("instructions", []):
            if instruction["instr_args_type"] == "KernelCall":
                yield plan["operators"][instruction["instr_args"]["op_index"]]["name"]


def constants(plan: Any) -> Iterator[tuple[Any, tuple[str, int]]]:
    """Constant tensors outside of delegates: their buffer, type and bytes."""
    for value in (v["val"] for v in plan["values"] if v["val_type"] == "Tensor"):
        if value["data_buffer_idx"] > 0 and "allocation_info" not in value:
            dtype = _DTYPES[value["scalar_type"]]
            yield ("program", value["data_buffer_idx"]), (dtype, prod(value["sizes"]) * np.dtype(dtype).itemsize)


def count_graph(graph: Any, number: int, tally: Tally) -> None:
    """Adds the nodes and the constants of delegate `number`, whose scales are constants of their own."""
    tally.inside.update(node["xnode_union_type"].removeprefix("XNN") for node in graph["xnodes"])
    for value in (v["xvalue_union"] for v in graph["xvalues"]):
        tensor = value.get("tensor_value", value)
        kind = tensor["datatype"].removeprefix("xnn_datatype_")
        used = [(tensor["constant_buffer_idx"], _STORED.get(kind, kind))]
        if scales := _SCALES.get(value.get("quant_params_type", "")):
            used.append((value["quant_params"]["scale_buffer_idx"], scales))
        for index, dtype in used:
            if index:  # 0 stands for no constant
                stored = graph["constant_data"][index]
                tally.weights[stored.get("named_key") or (number, index)] = (dtype, stored["size"])
