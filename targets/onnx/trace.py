"""How long each operator of an .onnx takes, by ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from wdp_edge.protocols.device import usual
from wdp_edge.protocols.target import OperatorRole, OperatorTime
from wdp_edge.targets.onnx.runtime import ONNXProgram, session

_WARMUP = 3
_ENDING = "_kernel_time"
_MICROSECONDS = 1000.0
# As the runtime calls them once it has fused what it can.
_ROLES = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv", "FusedConv", "NhwcFusedConv"), OperatorRole.CONV),
    **dict.fromkeys(
        ("Gemm", "FusedGemm", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul"),
        OperatorRole.LINEAR,
    ),
    **dict.fromkeys(("MatMul", "FusedMatMul"), OperatorRole.MATMUL),  # layers with weights are the ones above
    "Softmax": OperatorRole.SOFTMAX,
    **dict.fromkeys(("LayerNormalization", "SkipLayerNormalization"), OperatorRole.NORM),
}


def trace(path: Path, threads: int, runs: int) -> list[OperatorTime]:
    """Operators of the file in the order they run, after the runtime's own fusions.

    Raises InputError when the file is not sound.
    """
    import numpy as np

    sound = ONNXProgram(path, threads)
    with tempfile.TemporaryDirectory() as folder:
        running = session(path, threads, profile=str(Path(folder) / "trace"))
        image = np.zeros(sound.input_shape, sound.input_dtype)
        for _ in range(_WARMUP + runs):
            running.run(None, {running.get_inputs()[0].name: image})
        events: list[dict[str, Any]] = json.loads(Path(running.end_profiling()).read_text())
    return operators([e for e in events if e.get("cat") == "Node" and e["name"].endswith(_ENDING)])


def operators(events: list[dict[str, Any]]) -> list[OperatorTime]:
    """events: of all runs, in the order they happened."""
    times: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in events:
        times[event["name"]].append(event["dur"] / _MICROSECONDS)
        kinds[event["name"]] = event["args"]["op_name"]
    return [
        OperatorTime(kinds[name], _ROLES.get(kinds[name], OperatorRole.OTHER), usual(ms[_WARMUP:]), delegated=True)
        for name, ms in times.items()
    ]
