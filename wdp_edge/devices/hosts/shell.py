"""Commands through the shell of a device, whatever carries them there: ssh and adb."""

from __future__ import annotations

import secrets
import shlex
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from wdp_edge.devices.hosts.host import (
    Completed,
    arch_of,
    called,
    check_path,
    demand,
    disk_full,
    run_process,
    stream_process,
)
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import size_of
from wdp_edge.protocols.device import Kind

ANSWER_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 100_000

# Android lets its shell write nowhere else; Linux has a folder for such things.
_WORKDIR = (
    'd=/data/local/tmp; [ -w "$d" ] || d="${XDG_CACHE_HOME:-$HOME/.cache}"; '
    'mkdir -p "$d/wdp-edge" && chmod 700 "$d/wdp-edge" && cd "$d/wdp-edge" && pwd -P'
)


@dataclass(frozen=True)
class RemoteCommand:
    """A line for the device's shell, and the mark before the exit code that it writes at the end of its stderr."""

    line: str
    mark: str


def remote_command(argv: Sequence[str]) -> RemoteCommand:
    """How a shell runs `argv`, each quoted, so that its end is known and it never outlives the connection.

    Neither client reports everything: ssh exits with 255 for its own failures and for the command's 255, adb with 0
    when the device vanishes. So the shell writes the exit code itself, and where it is missing the connection broke. A
    second process reads stdin, which ends when the connection does, and then kills the command.
    Raises InputError for an argument with a zero byte.
    """
    if any("\0" in argument for argument in argv):
        raise InputError("An argument for a device holds a zero byte.", "Rename the file.")
    mark = f"wdp-edge-{secrets.token_hex(8)}:"
    line = (
        f"exec 3<&0; {shlex.join(argv)} </dev/null 3<&- & p=$!; "
        "(while read -r x; do :; done; kill -9 $p) <&3 >/dev/null 2>&1 3<&- & w=$!; "
        f"wait $p; c=$?; kill $w 2>/dev/null; echo {mark}$c >&2"
    )
    # The login shell may be any; `sh` is POSIX everywhere.
    return RemoteCommand(f"exec sh -c {shlex.quote(line)}", mark)


def outcome(done: Completed, mark: str) -> Completed | None:
    """How the command itself ended; None when the connection broke before it did."""
    said, found, code = done.err.rpartition(mark)
    if not found or not code.strip().isdecimal():
        return None
    return Completed(int(code), done.out, said)


class ShellHost(ABC):
    """A host whose device has a shell."""

    name: str
    kind = Kind.MEASURED

    def __init__(self, name: str) -> None:
        self.name = name
        self._workdir: str | None = None

    @abstractmethod
    def _client(self, line: str) -> list[str]:
        """The command of this machine that gives `line` to the device's shell."""

    @abstractmethod
    def _copy(self, local: Path, remote: str, timeout: float) -> Completed:
        """Copies a file or a folder of this machine to the device."""

    @abstractmethod
    def _lost(self, said: str) -> SetupError:
        """Why the connection broke, by the client's own words."""

    def run(self, argv: Sequence[str], timeout: float) -> Completed:
        command = remote_command(argv)
        done = run_process(self._client(command.line), self._called(argv), timeout, stdin=subprocess.PIPE)
        return self._outcome(done, command)

    def stream(self, argv: Sequence[str], silence_seconds: float) -> Generator[str, None, None]:
        command = remote_command(argv)
        client = self._client(command.line)
        done = yield from stream_process(client, self._called(argv), silence_seconds, stdin=subprocess.PIPE)
        if last := demand(self._outcome(done, command), self.name, called(argv)).out:
            yield last

    def push(self, local: Path, remote: str) -> None:
        size = size_of(local)
        done = self._copy(local.absolute(), check_path(remote), ANSWER_SECONDS + size / _SLOWEST_BYTES_PER_SECOND)
        if done.code != 0:
            raise self._not_copied(done, str(PurePosixPath(remote).parent), size)

    def arch(self) -> str:
        done = demand(self.run(["uname", "-m"], ANSWER_SECONDS), self.name, "uname")
        return arch_of(done.out.strip(), self.name)

    def workdir(self) -> str:
        if self._workdir is None:
            done = demand(self.run(["sh", "-c", _WORKDIR], ANSWER_SECONDS), self.name, "Making a work folder")
            self._workdir = check_path(done.out.strip())
        return self._workdir

    def _called(self, argv: Sequence[str]) -> str:
        return f"{called(argv)} on {self.name}"

    def _outcome(self, done: Completed, command: RemoteCommand) -> Completed:
        ended = outcome(done, command.mark)
        if ended is None:
            raise self._lost(done.err)
        return ended

    def _not_copied(self, done: Completed, folder: str, size: int) -> SetupError:
        """The sentence for a copy of `size` bytes that failed. sftp does not say that a disk is full: the disk does."""
        said = f"{done.err}\n{done.out}".strip().splitlines()
        free = demand(self.run(["df", "-Pk", folder], ANSWER_SECONDS), self.name, "df")
        if any("No space left on device" in line for line in said) or _is_full(free.out, size):
            return disk_full(self.name)
        reason = said[0].strip()[-300:] if said else "no reason given"
        return SetupError(
            f"A file cannot be copied to {folder} on {self.name}: {reason}.",
            "Check that the folder can be written, then run again.",
        )


def _is_full(said: str, size: int) -> bool:
    """Whether `df -Pk` shows a disk without space for `size` bytes. One of no size, such as /proc, is not full."""
    fields = said.splitlines()[-1].split() if said else []
    if len(fields) < 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
        return False
    return int(fields[1]) > 0 and int(fields[3]) < size / 1024
