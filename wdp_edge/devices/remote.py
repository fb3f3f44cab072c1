"""A device behind a host: files and a native runner are carried there, timed, and their outputs checked."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.devices.conditions import Reading, observed
from wdp_edge.devices.events import Done, Event, Loaded, LoadedFile, RoundDone, parse_event
from wdp_edge.devices.hosts.host import Host, demand
from wdp_edge.devices.processor import cpu_features, cpu_name, parse_cpuinfo
from wdp_edge.devices.reference import ExpectedOutput, difference, expected_outputs
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256
from wdp_edge.protocols.device import DeviceInfo, Kind, Timing, TimingPlan, summarise
from wdp_edge.protocols.target import get_target
from wdp_edge.runners.runtimes import has_runner, runner_targets
from wdp_edge.workers.process import SILENCE_SECONDS

if TYPE_CHECKING:
    from wdp_edge.runners.build import Bundle

_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class RunnerReport:
    """What the runner reports besides times. before, after: the first and the last round of the whole timing."""

    runtime: str
    files: tuple[LoadedFile, ...]
    peak_rss_bytes: int
    before: Reading
    after: Reading


class Interrupted(SetupError):
    """The device or its runner gave up.

    timings: of the rounds that were finished, () when none was. Outputs come at the end, so they are not checked.
    """

    def __init__(self, error: SetupError, timings: Sequence[Timing]) -> None:
        super().__init__(error.message, error.hint)
        self.timings = tuple(timings)


class RemoteDevice:
    """Times files on a host with the native runner of their target.

    silence_seconds: how long a runner may say nothing before it counts as hung. make_bundle: gives the runner of a
    target for an architecture; None builds it. report: of the last timing that was finished.
    """

    def __init__(
        self,
        host: Host,
        silence_seconds: float = SILENCE_SECONDS,
        make_bundle: Callable[[str, str], Bundle] | None = None,
    ) -> None:
        self.name = host.name
        self.kind = host.kind
        self.report: RunnerReport | None = None
        self._host = host
        self._silence_seconds = silence_seconds
        self._make_bundle = make_bundle or _build
        self._there: set[str] = set()
        self._references: dict[tuple[str, str], ExpectedOutput] = {}

    def probe(self) -> DeviceInfo:
        """The device's CPU, cores, features and system, and the product's name where it has one.

        Raises SetupError when the device cannot be reached.
        """
        processors = parse_cpuinfo(self._ask("cat", "/proc/cpuinfo"))
        cores = self._ask("nproc").strip()
        android = self._ask("getprop", "ro.product.model").strip()
        product = android or self._ask("cat", "/proc/device-tree/model").strip("\0\n ")
        machine = self._ask("uname", "-m").strip()
        system = "Android" if android else self._ask("uname", "-s").strip()
        names = list(dict.fromkeys(filter(None, map(cpu_name, processors))))
        return DeviceInfo(
            name=self.name,
            model=", ".join([*([product] if product else []), " + ".join(names) or machine]),
            cores=int(cores) if cores.isdecimal() else len(processors),
            features=cpu_features(processors[0]) if processors else (),
            system=f"{system} {machine}",
        )

    def time(
        self,
        target: str,
        artifacts: Sequence[Path],
        plan: TimingPlan,
        on_round: Callable[[int, int], None] | None = None,
    ) -> list[Timing]:
        """Times the artifacts in interleaved rounds in one process on the device, in the given order.

        An emulator counts the same in every run, so there one run of one round stands for all.
        on_round(done, total) is called after every finished round.
        Raises InputError for a file that is not an artifact of `target` or whose outputs are wrong on the device,
        Interrupted (a SetupError) with what was timed before when the device is lost or its runner fails.
        """
        get_target(target)
        asked = plan.rounds
        if self.kind is Kind.VIRTUAL:
            # Some runtimes settle in their second run. What is counted must not hang on how long runs took here.
            plan = replace(plan, rounds=1, runs=1, warmup=2, settle=0)
        self.report = None
        job = self._prepare(target, artifacts, plan)
        rounds: list[tuple[tuple[float, ...], ...]] = []
        try:
            for ms in self._rounds(job):
                rounds.append(ms)
                if on_round is not None:
                    on_round(len(rounds), asked)
        except SetupError as error:
            raise Interrupted(error, self._timings(rounds)) from error
        for number in range(plan.rounds + 1, asked + 1):
            if on_round is not None:
                on_round(number, asked)
        report = self.report
        assert report is not None, "a timing that was finished has one"
        # On an emulator it would be the emulator's own memory.
        peak = report.peak_rss_bytes if self.kind is Kind.MEASURED else None
        timings = [replace(timing, peak_memory=peak) for timing in self._timings(rounds)]
        return observed(self.name, timings, report.before, report.after)

    def peak_memory(self, target: str, artifact: Path, threads: int) -> int:
        """Bytes of the runner's process with this one file, the runtime and all libraries; its output is checked too.

        Raises like `time`, and InputError where nothing reports it.
        """
        check_memory(self.name, self.kind, target)
        (timing,) = self.time(target, [artifact], TimingPlan(rounds=1, runs=1, warmup=1, threads=threads))
        assert timing.peak_memory is not None, "check_memory has refused emulators"
        return timing.peak_memory

    def _timings(self, rounds: Sequence[tuple[tuple[float, ...], ...]]) -> list[Timing]:
        return [summarise(list(times), self._host.kind) for times in zip(*rounds, strict=True)]

    def _prepare(self, target: str, artifacts: Sequence[Path], plan: TimingPlan) -> _Job:
        """Files are known by their bytes: each is checked here and carried over once."""
        digests = [sha256(path) for path in artifacts]
        new = {d: path for d, path in zip(digests, artifacts, strict=True) if (target, d) not in self._references}
        for digest, reference in zip(new, expected_outputs(target, list(new.values())) if new else [], strict=True):
            self._references[target, digest] = reference
        bundle = self._make_bundle(target, self._host.arch())
        folder = self.carry(bundle.folder, bundle.digest)
        remote = [self.carry(path, digest) for path, digest in zip(artifacts, digests, strict=True)]
        expected = [self._references[target, digest] for digest in digests]
        return _Job(bundle.argv(folder), remote, [path.name for path in artifacts], expected, plan)

    def carry(self, local: Path, name: str) -> str:
        """The place of a file or folder on the device, where it is put unless it is there."""
        remote = f"{self._host.workdir()}/{name}"
        if remote in self._there:
            return remote
        if self._host.run(["test", "-e", remote], _ANSWER_SECONDS).code != 0:
            part = f"{remote}.{secrets.token_hex(4)}.part"
            try:
                self._host.push(local, part)
                demand(self._host.run(["mv", part, remote], _ANSWER_SECONDS), self.name, "mv")
            except BaseException:
                with contextlib.suppress(SetupError):  # the first error is the one to report
                    self._host.run(["rm", "-rf", part], _ANSWER_SECONDS)
                raise
        self._there.add(remote)
        return remote

    def _rounds(self, job: _Job) -> Iterator[tuple[tuple[float, ...], ...]]:
        """Milliseconds of every run, per file, of each round."""
        rest = job.plan.cooldown_seconds
        if rest == 0:
            yield from self._launch(job, job.plan.rounds)
            return
        for number in range(job.plan.rounds):
            if number:
                time.sleep(rest)
            # As the runner itself does within one process: every odd round goes backwards.
            order = job if number % 2 == 0 else job.backwards()
            for ms in self._launch(order, 1):
                yield ms if order is job else ms[::-1]

    def _launch(self, job: _Job, rounds: int) -> Iterator[tuple[tuple[float, ...], ...]]:
        """One process on the device. Its outputs are checked when it is done, after the last round."""
        with contextlib.closing(self._host.stream(self._argv(job, rounds), self._silence_seconds)) as lines:
            events = (self._event(line) for line in lines)
            loaded = self._loaded(job, next(events, None))
            for number in range(rounds):
                event = next(events, None)
                if not isinstance(event, RoundDone) or event.number != number or not job.holds(event):
                    raise self._garbled(f"round {number} is missing or incomplete")
                yield event.ms
            done = next(events, None)
            if not isinstance(done, Done) or next(events, None) is not None:
                raise self._garbled("it does not end as it should")
        self._check(job, done)
        # With rests between rounds there is a process for each.
        hidden = None, None
        before, after = map(Reading, done.temperature or hidden, done.clock_mhz or hidden)
        first = self.report.before if self.report else before
        self.report = RunnerReport(loaded.runtime, loaded.files, done.peak_rss_bytes, first, after)

    def _loaded(self, job: _Job, event: Event | None) -> Loaded:
        """The first event, when the runner sees in the files what the runtime here sees in them."""
        if not isinstance(event, Loaded) or len(event.files) != len(job.files):
            raise self._garbled("it does not say what it loaded")
        for file, name, expected in zip(event.files, job.names, job.expected, strict=True):
            if (file.input, file.dtype) != (expected.input, expected.dtype):
                raise self._garbled(f"it sees other inputs in {name}")
        return event

    def _argv(self, job: _Job, rounds: int) -> list[str]:
        plan = job.plan
        counts = {"threads": plan.threads, "rounds": rounds, "runs": plan.runs}
        counts |= {"warmup": plan.warmup, "settle": plan.settle}
        options = [part for name, count in counts.items() for part in (f"--{name}", str(count))]
        if plan.cpus:
            options += ["--cpus", ",".join(map(str, plan.cpus))]
        return [*job.command, *options, *job.files]

    def _event(self, line: str) -> Event:
        try:
            return parse_event(line)
        except ValueError as error:
            raise self._garbled(f"{error} in {line[:80]!r}") from error

    def _check(self, job: _Job, done: Done) -> None:
        """Raises InputError unless every file gave on the device what it gives here."""
        if len(done.outputs) != len(job.files):
            raise self._garbled("it has not run every file")
        for got, name, expected in zip(done.outputs, job.names, job.expected, strict=True):
            if wrong := difference(got, expected.output):
                raise InputError(
                    f"{name} gives a wrong result on {self.name} ({wrong}), so its time means nothing.",
                    "Export it with another precision, or use another version of its runtime.",
                )

    def _garbled(self, what: str) -> SetupError:
        return SetupError(
            f"Could not parse the output of the runner on {self.name}: {what}.",
            "Check that nothing else on the device writes to the output of every command, such as a shell profile.",
        )

    def _ask(self, *argv: str) -> str:
        """What a command says; "" when the device does not have it."""
        done = self._host.run(argv, _ANSWER_SECONDS)
        return done.out if done.code == 0 else ""


@dataclass(frozen=True)
class _Job:
    """What to run: the runner, the files on the device, their names and expected outputs here."""

    command: list[str]
    files: list[str]
    names: list[str]
    expected: list[ExpectedOutput]
    plan: TimingPlan

    def backwards(self) -> _Job:
        return _Job(self.command, self.files[::-1], self.names[::-1], self.expected[::-1], self.plan)

    def holds(self, event: RoundDone) -> bool:
        """Whether a round has all times that were asked for."""
        return len(event.ms) == len(self.files) and all(len(times) == self.plan.runs for times in event.ms)


def check_memory(device: str, kind: Kind, target: str) -> None:
    """Raises InputError where nothing reports how much memory a file takes. kind: of the device's times."""
    if kind is not Kind.MEASURED:
        raise InputError(
            f"Device '{device}' is emulated and does not report how much memory a file takes.",
            "Leave peak_memory out of this [[budget]], or name another device.",
        )
    if not has_runner(target):
        raise InputError(
            f"No native runner reports how much memory a file of target '{target}' takes.",
            f"Leave peak_memory out of this [[budget]]; there is a runner for {', '.join(runner_targets())}.",
        )


def _build(target: str, arch: str) -> Bundle:
    from wdp_edge.runners.build import bundle

    return bundle(target, arch)
