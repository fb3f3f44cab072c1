"""Reading a .pte as plain data: its program, and the graphs of the XNNPACK delegates in it.

ExecuTorch's flatc decodes them, in a process of its own: it trusts a damaged file and may crash. ExecuTorch's Python
reader would import the exporter first, which takes seconds.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wdp_edge.errors import InputError
from wdp_edge.targets.executorch_runtime import AGAIN, HEADER, METHOD, open_program

_SECONDS = 60
_INFINITE = re.compile(r":\s*(-?)inf\b")
_GRAPH_HEADER = struct.Struct("<4x4sHIIIQ")  # magic, its own size, then where graph and constants begin and how long


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
