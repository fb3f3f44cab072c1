"""How a device is reached: the protocol of a transport, the paths it may be given, and processes that end in time."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from wdp_edge.errors import SetupError
from wdp_edge.protocols.device import Kind

ARCHES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# For `sh -c`, with a folder and a command: prints its process id on the first line, then becomes the command.
STARTED = 'cd "$0" && echo "$$" && exec "$@"'

_PATH = re.compile(r"(/[A-Za-z0-9_+@=][A-Za-z0-9_.+@=-]*|/\.[A-Za-z0-9_][A-Za-z0-9_.+@=-]*)+")
_POLL_SECONDS = 0.5
_CHUNK = 1 << 16
_LINE_LIMIT = 1 << 22
_TEXT_LIMIT = 1 << 24
_TAIL = 1 << 16


@dataclass(frozen=True)
class Completed:
    """A command that has ended by itself. code: above 128, the signal that ended it, plus 128."""

    code: int
    out: str
    err: str


class Host(Protocol):
    """Carries files to a device and runs commands there.

    name: as on the command line, such as "ssh:pi@board". kind: what its times are.
    Every method raises SetupError, in one sentence, for a device that is lost, refuses, is full or hangs.
    Besides a bundle's own command, a device is asked for nothing but sh, test, mkdir, mv, rm, cat, df, uname, nproc
    and getprop; for a program of the user's, also for taskset and logcat.
    """

    name: str
    kind: Kind

    def arch(self) -> str:
        """ "x86_64" or "aarch64"."""
        ...

    def push(self, local: Path, remote: str) -> None:
        """Copies a file, or a folder with all in it, to `remote`, which is not there yet. Keeps executable bits."""
        ...

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        """Runs a command, and ends it on the device too when it takes longer than `timeout` seconds.

        One that the device does not have gives code 127.
        """
        ...

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        """The lines of a command's stdout while it runs.

        A command that says nothing for `silence_seconds` is ended, as is one whose lines nobody wants any more
        (the generator is closed). Raises SetupError, after the last whole line, when its exit code is not 0.
        """
        ...

    def workdir(self) -> str:
        """A private folder on the device, made when it is first asked for. What is in it stays there."""
        ...


def check_path(path: str) -> str:
    """`path`, when it is an absolute path of harmless characters without "..".

    Raises SetupError otherwise: such a path comes from the device.
    """
    if len(path) > 1024 or not _PATH.fullmatch(path):
        raise SetupError(
            f"{path[:80]!r} cannot be a folder or file of wdp-edge on a device.",
            "Set XDG_CACHE_HOME on the device to a path of letters, digits and / _ - + . = @ only.",
        )
    return path


def arch_of(machine: str, name: str) -> str:
    """What `uname -m` says, as runners are called. Raises SetupError where there is no runner."""
    if machine not in ARCHES:
        raise SetupError(
            f"{name} is a {machine[:40] or 'nameless'} machine.",
            "There are runners for 64-bit x86 and 64-bit Arm only.",
        )
    return ARCHES[machine]


def called(argv: Sequence[str]) -> str:
    """The name of the program that a command runs, also where something else starts it."""
    if list(argv[:3]) == ["sh", "-c", STARTED]:
        return called(argv[6:] if argv[4] == "taskset" else argv[4:])
    loaded = argv[3] if len(argv) > 3 and argv[1] == "--library-path" else argv[0]
    return PurePosixPath(loaded).name


def demand(done: Completed, name: str, what: str) -> Completed:
    """`done`, when it ended well. name: of the host; what: ran there. Raises SetupError with its last words."""
    if done.code == 0:
        return done
    if "No space left on device" in done.err:
        raise disk_full(name)
    reason = f"exit code {done.code}"
    if done.code > 128:
        reason = f"signal {done.code - 128}"
    raise SetupError(
        f"{what} failed on {name} ({reason}{last_words(done.err)}).",
        "A killed process may have run out of memory; otherwise its last words say what is wrong.",
    )


def disk_full(name: str) -> SetupError:
    return SetupError(f"No space is left on {name}.", "Free space on the device, then run again.")


def last_words(said: str) -> str:
    """The last line of what was said, for the end of a sentence; "" when nothing was."""
    lines = said.strip().splitlines()
    return f", last words: {lines[-1].strip()[-300:]}" if lines else ""


def run_process(
    argv: Sequence[str],
    what: str,
    timeout: float,
    *,
    stdin: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Runs a command of this machine to its end. what: names it in messages.

    stdin: subprocess.PIPE gives one that stays open and empty while the command runs. env: is added to this one's.
    Raises SetupError when there is no such command, when it takes longer than `timeout` seconds (its process group is
    killed) or writes more than a text can be.
    """
    end = time.monotonic() + timeout
    texts = {"out": bytearray(), "err": bytearray()}
    with _started(argv, stdin, env) as process:
        for source, data in _output(process, lambda: end, what, f"not done after {timeout:.0f} s"):
            texts[source] += data
            if len(texts[source]) > _TEXT_LIMIT:
                raise SetupError(f"{what} does not stop writing.", "Look at what the device prints to every command.")
        return Completed(_code(process), _text(texts["out"]), _text(texts["err"]))


def stream_process(
    argv: Sequence[str],
    what: str,
    silence_seconds: float,
    *,
    stdin: int = subprocess.DEVNULL,
) -> Generator[str, None, Completed]:
    """The lines of the stdout of a command of this machine, while it runs; `yield from` gives how it ended.

    `out` of the result is a last line without an end: of a command that was killed it is a line cut short.
    Closing the generator kills it. stdin: as in `run_process`. `err` of the result is the end of what it said.
    Raises SetupError when there is no such command, or when it says nothing for `silence_seconds` (its process group
    is killed).
    """
    rest, said = b"", b""
    with _started(argv, stdin) as process:
        limit = f"silent for {silence_seconds:.0f} s"
        for source, data in _output(process, lambda: time.monotonic() + silence_seconds, what, limit):
            if source == "err":
                said = (said + data)[-_TAIL:]
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield _text(line)
            if len(rest) > _LINE_LIMIT:
                raise SetupError(f"{what} wrote a line without end.", "Look at what the device prints.")
        return Completed(_code(process), _text(rest), _text(said))


@contextlib.contextmanager
def _started(
    argv: Sequence[str], stdin: int, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which is gone when the block ends."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=None if env is None else {**os.environ, **env},
        )
    except OSError as error:
        raise SetupError(
            f"Cannot start {argv[0]}: {error.strerror or error}.",
            "`wdp-edge doctor` says how to install what is missing.",
        ) from error
    try:
        yield process
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # ended meanwhile
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _output(
    process: subprocess.Popen[bytes], deadline: Callable[[], float], what: str, limit: str
) -> Iterator[tuple[str, bytes]]:
    """What the process writes, as it comes, with "out" or "err", until it has ended.

    deadline: asked again after every piece. A child that outlives the process and keeps its pipes (the server that adb
    starts) is not waited for.
    """
    assert process.stdout is not None and process.stderr is not None
    end = deadline()
    with selectors.DefaultSelector() as pipes:
        pipes.register(process.stdout, selectors.EVENT_READ, "out")
        pipes.register(process.stderr, selectors.EVENT_READ, "err")
        while pipes.get_map():
            ready = pipes.select(min(_POLL_SECONDS, max(0.0, end - time.monotonic())))
            for key, _ in ready:
                if data := os.read(key.fd, _CHUNK):
                    yield key.data, data
                else:
                    pipes.unregister(key.fileobj)
            if ready:
                end = deadline()
            elif process.poll() is not None:
                return
            if time.monotonic() > end:
                raise _hung(what, limit)
    try:
        process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise _hung(what, limit) from None


def _hung(what: str, limit: str) -> SetupError:
    return SetupError(f"{what} hung ({limit}).", "Check that the device is on and idle, then run again.")


def _code(process: subprocess.Popen[bytes]) -> int:
    """The exit code as a shell counts it."""
    code = process.wait()
    return 128 - code if code < 0 else code


def _text(data: bytes | bytearray) -> str:
    return data.decode("utf-8", errors="replace")
