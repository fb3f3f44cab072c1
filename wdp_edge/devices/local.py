"""The machine itself."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from wdp_edge.device import DeviceInfo, Kind, Latency, Timing, TimingPlan
from wdp_edge.devices.conditions import Reading, observed
from wdp_edge.devices.process import SILENCE_SECONDS, WorkerProcess
from wdp_edge.plain import from_plain
from wdp_edge.target import OperatorTime, check_timed, get_target

WORKER = "wdp_edge.devices.worker"
# What decides which kernels a runtime picks.
_FEATURES = (
    *("avx", "avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


class LocalDevice:
    """The device `local`. silence_seconds: how long a worker may say nothing before it counts as hung."""

    name = "local"
    kind = Kind.MEASURED
    operator_kind = Kind.MEASURED

    def __init__(self, silence_seconds: float = SILENCE_SECONDS) -> None:
        self.silence_seconds = silence_seconds

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

        on_round(done, total) is told of every finished round.
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
        Raises InputError for a target without a native runner or a file whose outputs are wrong in it, SetupError
        when it cannot be built here or fails.
        """
        from wdp_edge.devices.local_host import LocalHost
        from wdp_edge.devices.remote import RemoteDevice

        with tempfile.TemporaryDirectory(dir=LocalHost().workdir()) as folder:
            runner = RemoteDevice(LocalHost(self.name, Path(folder)), self.silence_seconds)
            return runner.peak_memory(target, artifact, threads)

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


def summarise(rounds: Sequence[Sequence[float]], kind: Kind = Kind.MEASURED) -> Timing:
    """rounds: milliseconds of every run, per round."""
    every = sorted(t for times in rounds for t in times)
    p90 = every[min(len(every) - 1, int(0.9 * len(every)))]
    latency = Latency(p50=statistics.median(every), p90=p90, min=every[0], kind=kind)
    # Other processes can only slow a run down, by taking the core, the caches or the memory, and long runs more
    # than short ones; the fastest run of a round is what survives a busy machine without bias.
    return Timing(latency, tuple(min(times) for times in rounds))


def read_cpuinfo(path: Path) -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; {} where there is none."""
    if not path.is_file():
        return {}
    processors = parse_cpuinfo(path.read_text(encoding="utf-8", errors="replace"))
    return processors[0] if processors else {}


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """The entries of each processor in the text of /proc/cpuinfo."""
    blocks = [[line.partition(":") for line in block.splitlines()] for block in text.strip().split("\n\n")]
    every = [{key.strip(): value.strip() for key, _, value in block} for block in blocks]
    return [entries for entries in every if "processor" in entries]


def cpu_features(facts: dict[str, str]) -> tuple[str, ...]:
    """Those of a processor's features that decide which kernels a runtime picks."""
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return tuple(f for f in _FEATURES if f in flags)


def cpu_name(facts: dict[str, str]) -> str:
    """A name that tells one kind of CPU from another; "" when the entries of /proc/cpuinfo hold none.

    Clouds hide the marketing name ("Intel(R) Xeon(R) Processor"), so family and model are part of it.
    """
    if name := facts.get("model name"):
        return f"{name} ({facts.get('cpu family', '?')}/{facts.get('model', '?')}/{facts.get('stepping', '?')})"
    if part := facts.get("CPU part"):
        return f"Arm {facts.get('CPU implementer', '?')} part {part} revision {facts.get('CPU revision', '?')}"
    return ""


def cpu_model(facts: dict[str, str]) -> str:
    """The name of this machine's CPU. facts: its entries of /proc/cpuinfo, {} where there are none."""
    if name := cpu_name(facts):
        return name
    if platform.system() == "Darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"],
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout.strip() or platform.processor()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
