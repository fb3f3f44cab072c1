"""The devices `qemu:CPU`: an emulated Arm core whose times are counted instructions."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wdp_edge.devices.events import Done, RoundDone, parse_event
from wdp_edge.devices.hosts.host import Completed, called, demand, run_process, stream_process
from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import write_text
from wdp_edge.protocols.device import Kind
from wdp_edge.runners.build import RUNNER, plugin, tool

EMULATOR = "qemu-aarch64"
ARCH = "aarch64"
_PER_MS = 1e6
_ANSWER_SECONDS = 60.0
# Up to qemu 8 plugins count with one counter, since qemu 9 with one per CPU (icount.c).
_OLDEST, _SCOREBOARDS = 6, 9
_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Cpu:
    """An Arm core as Linux describes it. Runtimes choose their kernels by this description.

    emulated: the core of qemu that runs it; of the same instruction set where qemu has no such core.
    """

    emulated: str
    part: int
    variant: int
    revision: int
    features: str

    def cpuinfo(self) -> str:
        """/proc/cpuinfo of a machine with one such core."""
        return (
            "processor\t: 0\n"
            "BogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"
            "CPU architecture: 8\n"
            f"CPU variant\t: {self.variant:#x}\n"
            f"CPU part\t: {self.part:#x}\n"
            f"CPU revision\t: {self.revision}\n\n"
        )


CPUS = {
    "cortex-a53": Cpu("cortex-a53", 0xD03, 0, 4, _ARMV8),
    # Not in qemu before 8.1; the A76 has the same instructions.
    "cortex-a55": Cpu("cortex-a76", 0xD05, 2, 0, _ARMV8_2),
    "cortex-a72": Cpu("cortex-a72", 0xD08, 0, 3, _ARMV8),
    "cortex-a76": Cpu("cortex-a76", 0xD0B, 4, 1, _ARMV8_2),
}


class QemuHost(LocalHost):
    """`qemu:CPU`: programs for Arm run in qemu's user mode; files lie in a folder of this machine.

    One instruction is one nanosecond. The emulated core is described by /proc/cpuinfo of its own, not this machine's.
    folder: its work folder, or None for one in the user's cache.
    Raises InputError for an unknown CPU; its methods SetupError when qemu is not installed or too old.
    """

    kind = Kind.VIRTUAL

    def __init__(self, cpu: str, folder: Path | None = None) -> None:
        if cpu not in CPUS:
            raise InputError(f"There is no device 'qemu:{cpu}'.", f"Known CPUs: {', '.join(CPUS)}.")
        super().__init__(f"qemu:{cpu}", folder)
        self.cpu = CPUS[cpu]
        self._own = tempfile.TemporaryDirectory(prefix="wdp-edge-qemu-")
        self._prefix = Path(self._own.name)
        write_text(self._prefix / "proc/cpuinfo", self.cpu.cpuinfo())
        for name in ("possible", "present", "online"):
            write_text(self._prefix / "sys/devices/system/cpu" / name, "0\n")

    @cached_property
    def _emulator(self) -> str:
        return tool(EMULATOR)

    @cached_property
    def _plugin(self) -> Path:
        return plugin(plugin_interface(self._emulator))

    def arch(self) -> str:
        return ARCH

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """Programs for Arm are emulated; a device's own commands answer for the emulated core."""
        if is_arm(argv[0]):
            return run_process(self._emulated(argv), f"{called(argv)} on {self.name}", timeout)
        return self._answer(list(argv)) or super().run(argv, timeout)

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        """A runner's lines, with virtual milliseconds in place of measured ones.

        Raises InputError for a runner with more than one thread: their instructions together are not a time.
        """
        if "--threads" in argv and argv[list(argv).index("--threads") + 1] != "1":
            raise InputError(f"{self.name} counts the instructions of one thread.", "Set threads = 1.")
        with tempfile.TemporaryDirectory(prefix="counts-", dir=self._prefix) as folder:
            translator = Translator(Path(folder) / "counts")
            command = self._emulated(marked(argv), "-plugin", f"{self._plugin},out={translator.counts}")
            with closing(stream_process(command, f"{called(argv)} on {self.name}", silence_seconds)) as lines:
                while True:
                    try:
                        line = next(lines)
                    except StopIteration as ended:
                        if last := demand(ended.value, self.name, called(argv)).out:
                            yield translator.translate(last)
                        return
                    yield translator.translate(line)

    def _emulated(self, argv: Sequence[str], *options: str) -> list[str]:
        # The environment lies on the program's stack and would be part of what decides the counts.
        clean = ["env", "-i"]
        return [*clean, self._emulator, "-cpu", self.cpu.emulated, "-L", str(self._prefix), *options, *argv]

    def _answer(self, argv: list[str]) -> Completed | None:
        """What the emulated machine says about itself; None for commands on files."""
        if argv[0] == "getprop":
            return Completed(127, "", "getprop: not found\n")
        if argv == ["nproc"]:
            return Completed(0, "1\n", "")
        if argv == ["uname", "-m"]:
            return Completed(0, f"{ARCH}\n", "")
        if argv[0] == "cat" and argv[-1].startswith(("/proc/", "/sys/")):
            path = self._prefix / argv[-1][1:]
            known = path.is_file() and ".." not in path.parts
            return Completed(0, path.read_text("ascii"), "") if known else Completed(1, "", f"{argv[-1]}: not found\n")
        return None


class Translator:
    """Puts instruction counts into a runner's lines. counts: the file that the plugin writes, one line per run."""

    def __init__(self, counts: Path) -> None:
        self.counts = counts
        self._used = 0

    def translate(self, line: str) -> str:
        """A line of the runner, with times made of counts, and without what the emulator's host would report about
        itself.

        A line that is not an event stays as it is. Raises SetupError when the plugin has not counted every run.
        """
        try:
            event = parse_event(line)
        except ValueError:
            return line
        if isinstance(event, RoundDone):
            return json.dumps({"event": "round", "number": event.number, "ms": self._virtual(event)})
        if isinstance(event, Done):
            return json.dumps(json.loads(line) | {"temperature": None, "clock_mhz": None})
        return line

    def _virtual(self, event: RoundDone) -> list[list[float]]:
        """Virtual milliseconds in the shape of the measured ones; odd rounds ran backwards through the files."""
        files = range(len(event.ms))
        counts = [int(text) for text in self.counts.read_text(encoding="ascii").split()]
        result: list[list[float]] = [[] for _ in files]
        for i in files if event.number % 2 == 0 else reversed(files):
            runs = len(event.ms[i])
            result[i] = [count / _PER_MS for count in counts[self._used : self._used + runs]]
            self._used += runs
        if self._used > len(counts):
            raise SetupError("qemu's plugin did not count every run.", "Check that qemu is the distribution's own.")
        return result


def marked(argv: Sequence[str]) -> list[str]:
    """The runner's command with --mark, which tells the plugin where a run begins and ends."""
    at = next((i + 1 for i, word in enumerate(argv) if Path(word).name == RUNNER), len(argv))
    return [*argv[:at], "--mark", *argv[at:]]


def is_arm(program: str) -> bool:
    """Whether a path is that of a program for 64-bit Arm."""
    path = Path(program)
    if not path.is_absolute() or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(20)
    return head[:4] == b"\x7fELF" and head[18:20] == b"\xb7\x00"


def plugin_interface(emulator: str) -> int:
    """The version of the plugin interface that this qemu has. Raises SetupError for one that is too old or has none."""
    said, options = (
        demand(run_process([emulator, word], emulator, _ANSWER_SECONDS), "this machine", emulator).out
        for word in ("--version", "--help")
    )
    found = re.search(r"version (\d+)\.", said)
    if found is None or int(found[1]) < _OLDEST:
        raise SetupError(f"{emulator} is too old: {said.strip()[:80]}.", f"Install qemu {_OLDEST} or newer.")
    if "-plugin" not in options:
        raise SetupError(
            f"{emulator} was built without plugins: {said.splitlines()[0][:80]}.",
            "Install a qemu-user that is not linked statically, such as Debian 12's.",
        )
    return 1 if int(found[1]) < _SCOREBOARDS else 2
