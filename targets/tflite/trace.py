"""How long each operator of a .tflite takes: LiteRT's profiler, to which XNNPACK reports its own operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wdp_edge.errors import SetupError
from wdp_edge.protocols.device import usual
from wdp_edge.protocols.target import OperatorTime
from wdp_edge.targets.shared.quiet import quiet, silent_stderr
from wdp_edge.targets.shared.xnnpack import role_of
from wdp_edge.targets.tflite.profiler import DELEGATED_OPERATOR, OPERATOR, Event, profiled
from wdp_edge.targets.tflite.runtime import TFLiteProgram

_WARMUP = 3


def trace(path: Path, threads: int, runs: int) -> list[OperatorTime]:
    """Operators of the file in the order they run. Their clock counts whole microseconds, so the mean is taken.

    Raises InputError when the file is not sound, SetupError when the runtime here has no profiler.
    """
    TFLiteProgram(path, threads)
    with quiet(), silent_stderr(), profiled(path, threads) as run:
        return operators([run() for _ in range(_WARMUP + runs)][_WARMUP:])


def operators(runs: Sequence[Sequence[Event]]) -> list[OperatorTime]:
    """runs: what was timed in each. Raises SetupError when no operator was."""
    steps = [[event for event in run if event.kind in (OPERATOR, DELEGATED_OPERATOR)] for run in runs]
    found = [operator(same) for same in zip(*steps, strict=True)]
    if not found:
        raise SetupError(
            "This build of LiteRT does not report the times of operators.", "Install ai-edge-litert from PyPI."
        )
    return found


def operator(events: Sequence[Event]) -> OperatorTime:
    """events: of one operator, one of each run."""
    name, delegated = events[0].name, events[0].kind == DELEGATED_OPERATOR
    return OperatorTime(name, role_of(name), usual([event.us / 1000 for event in events]), delegated)
