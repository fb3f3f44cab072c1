"""A device whose files are timed by the user's own program: LiteRT's benchmark_model, ExecuTorch's executor_runner."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wdp_edge.devices.conditions import Reading, observed, read_there
from wdp_edge.devices.hosts.host import STARTED, Completed, Host, demand
from wdp_edge.devices.programs import PROGRAMS, ReportedTimes, TimingProgram, program_for
from wdp_edge.devices.remote import Interrupted, RemoteDevice
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256
from wdp_edge.protocols.device import DeviceInfo, Timing, TimingPlan, summarise
from wdp_edge.workers.process import SILENCE_SECONDS

_ANSWER_SECONDS = 60.0


class OwnRunner:
    """Times files on a host with the program `path`; the target of the files says which one that is.

    Every round starts one process for each file, in turn. Outputs are not compared with those of the file's runtime
    here, which every latency carries as its caveat.
    seconds: how long a process may take before it counts as hung.
    """

    targets = tuple(PROGRAMS)

    def __init__(self, host: Host, path: Path, seconds: float = SILENCE_SECONDS) -> None:
        self.name = host.name
        self.kind = host.kind
        self._host = host
        self._path = path
        self._seconds = seconds
        self._device = RemoteDevice(host)

    def probe(self) -> DeviceInfo:
        """As without the program, which is one of the features: times of another one are others.

        Raises InputError when there is no program, SetupError when the device cannot be reached.
        """
        info = self._device.probe()
        return replace(info, features=(*info.features, f"{self._path.name} {self._digest()}"))

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times the artifacts in interleaved rounds, each in processes of its own, in the given order.

        on_round(done, total) is called after every finished round.
        Raises InputError when there is no program or none for `target`, Interrupted (a SetupError) with what was timed
        before when the device is lost or the program fails or reports no times.
        """
        program = program_for(target)
        command = self._carried(program)
        job = _Job(program, command, [self._device.carry(path, sha256(path)) for path in artifacts], plan)
        rounds: list[list[ReportedTimes]] = []
        readings: list[Reading] = []
        try:
            for told in self._rounds(job):
                rounds.append(told)
                if len(rounds) in (1, plan.rounds):
                    readings.append(read_there(self._host, plan.cpus))
                if on_round is not None:
                    on_round(len(rounds), plan.rounds)
            peaks = [self._peak(job, file) for file in job.files]
        except SetupError as error:
            raise Interrupted(error, _timings(program, rounds)) from error
        timings = [replace(t, peak_memory=p) for t, p in zip(_timings(program, rounds), peaks, strict=True)]
        return observed(self.name, timings, readings[0], readings[-1], at_work=False)

    def peak_memory(self, target: str, artifact: Path, threads: int) -> int:
        """Raises InputError when the program does not report it, and like `time`."""
        plan = TimingPlan(rounds=1, runs=1, warmup=1, threads=threads)
        if (peak := self.time(target, [artifact], plan)[0].peak_memory) is None:
            raise InputError(
                f"{self._path.name} does not report how much memory a file takes.", "Leave the runner out."
            )
        return peak

    def _rounds(self, job: _Job) -> Iterator[list[ReportedTimes]]:
        """What is reported for each file, for each round. Every second round goes backwards, so that drift cancels."""
        for number in range(job.plan.rounds):
            time.sleep(job.plan.cooldown_seconds if number else 0)
            files = job.files if number % 2 == 0 else job.files[::-1]
            told = [self._told(job, file) for file in files]
            yield told if number % 2 == 0 else told[::-1]

    def _told(self, job: _Job, file: str) -> ReportedTimes:
        said = self._said(job, job.program.options(file, job.plan))
        try:
            return job.program.parse(said, job.plan)
        except ValueError as error:
            raise SetupError(f"{job.program.name} on {self.name} reports no times.", job.program.advice) from error

    def _peak(self, job: _Job, file: str) -> int | None:
        """Peak bytes of a process with this file; None when the program does not report it."""
        if job.program.memory is None:
            return None
        options, parse = job.program.memory
        done = self._run(job, options(file, job.plan))
        return parse(f"{done.out}\n{done.err}") if done.code == 0 else None

    def _said(self, job: _Job, options: Sequence[str]) -> str:
        """All that a process says. Raises SetupError, with its last words, when it fails."""
        done = self._run(job, options)
        pid, _, said = done.out.partition("\n")
        said_too = done.err + self._logged(pid, job.program.log_tag)
        demand(Completed(done.code, said, said_too), self.name, job.program.name)
        return f"{said}\n{said_too}"

    def _run(self, job: _Job, options: Sequence[str]) -> Completed:
        words = ["sh", "-c", STARTED, self._host.workdir(), *_pinned(job.plan.cpus), job.command, *options]
        return self._host.run(words, self._seconds)

    def _logged(self, pid: str, tag: str) -> str:
        """What a process wrote to Android's log; "" for a program that does not, or a device without one."""
        if not tag or not pid.isdecimal():
            return ""
        done = self._host.run(["logcat", "-d", "-v", "raw", f"--pid={pid}", "-s", tag], _ANSWER_SECONDS)
        return done.out if done.code == 0 else ""

    def _carried(self, program: TimingProgram) -> str:
        """The place of the program on the device. What was downloaded is often not executable, so a copy is made so."""
        name = f"{program.name}-{self._digest()}"
        with tempfile.TemporaryDirectory(prefix="wdp-edge-") as temporary:
            folder = Path(temporary) / name
            folder.mkdir()
            shutil.copyfile(self._path, folder / program.name)
            (folder / program.name).chmod(0o755)
            return f"{self._device.carry(folder, name)}/{program.name}"

    def _digest(self) -> str:
        """Raises InputError when the program is not a readable file."""
        if not self._path.is_file():
            raise InputError(f"There is no program {self._path}.", "Give a benchmark_model or executor_runner.")
        try:
            return sha256(self._path)
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}.", "Check its permissions.") from error


@dataclass(frozen=True)
class _Job:
    """What to run. command: the program on the device. files: on the device, too."""

    program: TimingProgram
    command: str
    files: list[str]
    plan: TimingPlan


def _pinned(cpus: Sequence[int]) -> list[str]:
    """The words before a command that keep it to some cores: taskset's mask is what Android and Linux both know."""
    return ["taskset", f"{sum(1 << cpu for cpu in set(cpus)):x}"] if cpus else []


def _timings(program: TimingProgram, rounds: Sequence[Sequence[ReportedTimes]]) -> list[Timing]:
    """One for each file. rounds: what was reported for each file, for each finished round."""
    return [_summary(program, list(told)) for told in zip(*rounds, strict=True)]


def _summary(program: TimingProgram, told: Sequence[ReportedTimes]) -> Timing:
    """Percentiles of all runs where the program reports them; else of the rounds' medians or means, which is noted."""
    caveat = f"timed by {program.name}, whose outputs nobody checked"
    if all(t.runs for t in told):
        timing = summarise([t.runs for t in told])
    else:
        timing = summarise([[t.middle] for t in told])
        statistic = "median" if all(t.statistic == "median" for t in told) else "mean"
        caveat += f"; p50 and p90 are of its {statistic}s of {len(told)} round{'s' if len(told) > 1 else ''}"
    fastest = tuple(t.fastest for t in told)
    return Timing(replace(timing.latency, min=min(fastest), caveat=caveat), fastest)
