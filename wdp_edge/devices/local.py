"""The machine itself."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from wdp_edge.devices.conditions import Reading, observed
from wdp_edge.devices.processor import cpu_features, cpu_model, read_cpuinfo
from wdp_edge.errors import InputError
from wdp_edge.io.plain import from_plain
from wdp_edge.protocols.device import DeviceInfo, Kind, Timing, TimingPlan, summarise
from wdp_edge.protocols.target import OperatorTime, Tracing, check_timed, get_target
from wdp_edge.workers.process import SILENCE_SECONDS, WorkerProcess

WORKER = "wdp_edge.devices.worker"


NativeMemory = Callable[[str, Path, int], int]
"""Target, file, threads: bytes of a process of the target's native runner with this file."""


class LocalDevice:
    """The device `local`.

    native_memory: asks the native runner of a target, which is no part of this; None where there is none.
    silence_seconds: how long a worker may say nothing before it counts as hung.
    """

    name = "local"
    kind = Kind.MEASURED
    operator_kind = Kind.MEASURED

    def __init__(self, native_memory: NativeMemory | None = None, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.native_memory, self.silence_seconds = native_memory, silence_seconds

    def probe(self) -> DeviceInfo:
        """CPU, cores this process may use, the features that decide its kernels, and the system."""
        facts = read_cpuinfo(Path("/proc/cpuinfo"))
        return DeviceInfo(
            name=self.name,
            model=cpu_model(facts),
            cores=usable_cores(),
            features=cpu_features(facts),
            system=f"{platform.system()} {platform.machine()}",
        )

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times the artifacts in interleaved rounds in one worker process, in the given order.

        on_round(done, total) is called after every finished round.
        Raises InputError for a file the target cannot load or time here, SetupError when the worker crashes or hangs.
        """
        check_timed(get_target(target))
        request = {
            "verb": "time",
            "what": f"timing {', '.join(p.name for p in artifacts)}",
            "target": target,
            "artifacts": [str(p) for p in artifacts],
            "plan": asdict(plan),
        }
        with WorkerProcess(WORKER, request, plan.threads, self.silence_seconds) as worker:
            timings = receive_rounds(worker, plan.rounds, on_round)
            seen = worker.receive()[0]
        before, after = (from_plain(Reading, seen[when]) for when in ("before", "after"))
        return observed(self.name, timings, before, after)

    def peak_memory(self, target: str, artifact: Path, threads: int) -> int:
        """Bytes of a process of the target's native runner, which is built when it is first needed.

        A Python process would count the interpreter and torch too.
        Raises InputError where there is no native runner, or for a file whose outputs are wrong in it, SetupError when
        it cannot be built here or fails.
        """
        if self.native_memory is None:
            raise InputError(f"Nothing on {self.name} tells how much memory a file takes.", "Leave peak_memory out.")
        return self.native_memory(target, artifact, threads)

    def traces(self, target: str) -> bool:
        """Whether the target's runtime reports the times of operators."""
        return isinstance(get_target(target), Tracing)

    def trace(self, target: str, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the artifact's operators, by a target that is `Tracing`, in a worker process.

        Raises like `time`.
        """
        request = {
            "verb": "trace",
            "what": f"timing the operators of {path.name}",
            "target": target,
            "artifact": str(path),
            "threads": threads,
            "runs": runs,
        }
        with WorkerProcess(WORKER, request, threads, self.silence_seconds) as worker:
            return [from_plain(OperatorTime, one) for one in worker.receive()[0]["operators"]]


def receive_rounds(
    worker: WorkerProcess, rounds: int, on_round: Callable[[int, int], None] | None = None
) -> list[Timing]:
    """Timings of a worker's artifacts, which it sends round by round."""
    runs: list[list[list[float]]] = []
    for number in range(rounds):
        runs.append(worker.receive()[0]["ms"])
        if on_round is not None:
            on_round(number + 1, rounds)
    return [summarise(times) for times in zip(*runs, strict=True)]


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
