"""How long each operator of a .pte takes: ExecuTorch's event tracer, which looks into the delegate too."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from wdp_edge.errors import SetupError
from wdp_edge.protocols.device import usual
from wdp_edge.protocols.target import OperatorTime
from wdp_edge.targets.executorch.file import METHOD
from wdp_edge.targets.executorch.runtime import PteProgram
from wdp_edge.targets.shared.quiet import quiet, silent_stderr
from wdp_edge.targets.shared.xnnpack import role_of

_WARMUP = 3
_RUN = "Execute"
_NATIVE = "native_call_"
_AROUND = ("OPERATOR_CALL", "DELEGATE_CALL", "Method::execute")  # these contain the others


def trace(path: Path, threads: int, runs: int) -> list[OperatorTime]:
    """Operators of the file in the order they run. XNNPACK's clock counts whole microseconds, so the mean is taken.

    Raises InputError when the file is not sound, SetupError when this build of the runtime has no tracer.
    """
    sound = PteProgram(path, threads)
    with tempfile.TemporaryDirectory() as folder, quiet(), silent_stderr():
        from executorch.devtools import Inspector
        from executorch.extension.pybindings import _C

        dump = Path(folder) / "trace.etdp"
        program: Any = _C._load_program(str(path), enable_etdump=True)
        method = program.load_method(METHOD)
        image = torch.zeros(sound.input_shape, dtype=getattr(torch, sound.input_dtype))
        for _ in range(_WARMUP + runs):
            method([image])
        program.write_etdump_result_to_file(str(dump), str(Path(folder) / "debug.bin"))
        blocks = Inspector(etdump_path=str(dump)).event_blocks
    events = [event for block in blocks if block.name == _RUN for event in block.events]
    if not events:
        raise SetupError(
            "This build of ExecuTorch does not report the times of operators.", "Install executorch from PyPI."
        )
    return [operator(event) for event in events if event.name not in _AROUND]


def operator(event: Any) -> OperatorTime:
    """event: of the toolkit's Inspector; its times are in ms, one of each run."""
    name = event.name.removeprefix(_NATIVE).partition(" #")[0]
    return OperatorTime(name, role_of(name), usual(event.perf_data.raw[_WARMUP:]), bool(event.is_delegated_op))
