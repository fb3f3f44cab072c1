"""Starts worker processes in milliseconds: forks of a process that has imported what they need.

Importing torch, timm and an exporter takes a worker between 3 and 12 seconds of CPU time, and a run starts dozens of
workers. The nursery imports once, has a single thread, since a process with several must not fork, and ends when the
process that started it is gone. Linux only; elsewhere workers start as ordinary processes.

Not `multiprocessing`'s forkserver: that has one environment for all workers, imports the caller's own `__main__` into
each of them, and leaves them the caller's stdout and stderr.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

_PROGRAM = "from wdp_edge.workers.nursery import main; main()"
_MOST = 2
_MESSAGE = 1 << 20
# What libraries read while they are imported makes a nursery of its own; these are read later, by the worker.
_READ_LATER = ("WDP_EDGE_", "PYTEST_", "TMPDIR", "COLUMNS", "LINES", "TERM")
_STDIN, _STDOUT, _STDERR = 0, 1, 2


class Started(Protocol):
    """A worker's process, in the words of `subprocess.Popen`."""

    pid: int
    returncode: int | None
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        ...


def start_worker(module: str, imports: Sequence[str], env: Mapping[str, str]) -> Started:
    """`python -m module` with pipes and a process group of its own. The module has a function `main`.

    imports: modules that the worker imports sooner or later. env: its whole environment.
    """
    if sys.platform == "linux":
        with contextlib.suppress(_CannotFork):
            return _nursery(env).start(module, imports, env)
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )


class _CannotFork(Exception):
    """The nursery is gone, or has more than one thread."""


class _Forked:
    """A worker that a nursery forked. control: the guard that waits for it."""

    def __init__(self, pid: int, control: socket.socket, pipes: Sequence[int]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = os.fdopen(pipes[0], "wb")
        self.stdout: IO[bytes] | None = os.fdopen(pipes[1], "rb")
        self.stderr: IO[bytes] | None = os.fdopen(pipes[2], "rb")
        self._control = control

    def wait(self) -> int:
        if self.returncode is None:
            said = self._control.recv(64)
            # A guard that is gone was killed, and nothing is known of the worker.
            self.returncode = int(said) if said else -signal.SIGKILL
            with self._control, contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)
                self._control.recv(1)  # until the guard has ended, and the worker's id with it
        return self.returncode


class Nursery:
    """This process's end of a nursery.

    requests: the socket whose other end `serve` has. process: the one that serves, to be waited for.
    """

    def __init__(self, requests: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self._requests, self._process = requests, process
        self._owner = os.getpid()
        self._forks = True
        self._lock = threading.Lock()

    @property
    def usable(self) -> bool:
        """Whether it lives, and is this process's own: a fork of this process must not talk to it."""
        return self._owner == os.getpid() and (self._process is None or self._process.poll() is None)

    def start(self, module: str, imports: Sequence[str], env: Mapping[str, str]) -> Started:
        """A fork that runs `module`. Raises _CannotFork, from then on always."""
        if not self._forks:
            raise _CannotFork
        control, guard = socket_pair()
        their_in, our_in = os.pipe()
        our_out, their_out = os.pipe()
        our_err, their_err = os.pipe()
        ours, theirs = (our_in, our_out, our_err), (their_in, their_out, their_err)
        request = {"module": module, "imports": list(imports), "env": dict(env), "folder": _folder()}
        try:
            with guard, self._lock:
                socket.send_fds(self._requests, [json.dumps(request).encode()], [*theirs, guard.fileno()])
            said = control.recv(64)
        except OSError:
            said = b""
        finally:
            for file in theirs:
                os.close(file)
        if said:
            return _Forked(int(said), control, ours)
        control.close()
        for file in ours:
            os.close(file)
        self._forks = False
        raise _CannotFork

    def close(self) -> None:
        """Ends the nursery, not its workers."""
        self._requests.close()
        if self._process is not None and self._owner == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is importing, and ends after that
                self._process.wait(timeout=1.0)


def _new_nursery(env: Mapping[str, str]) -> Nursery:
    """A process of its own, whose libraries are imported with this environment."""
    ours, theirs = socket_pair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # remarks of libraries as they are imported
            pass_fds=[theirs.fileno()],
            env=env,
            start_new_session=True,
        )
    return Nursery(ours, process)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a nursery: one for `Nursery`, one for `serve`."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


_nurseries: OrderedDict[tuple[tuple[str, str], ...], Nursery] = OrderedDict()
_choosing = threading.Lock()


def _nursery(env: Mapping[str, str]) -> Nursery:
    """The one of this environment; the one that was used least recently goes when there are too many."""
    key = tuple(sorted((k, v) for k, v in env.items() if not k.startswith(_READ_LATER)))
    with _choosing:
        found = _nurseries.pop(key, None)
        if found is None or not found.usable:
            found = _new_nursery(env)
        _nurseries[key] = found
        while len(_nurseries) > _MOST:
            _nurseries.popitem(last=False)[1].close()
    return found


@atexit.register
def _close_all() -> None:
    while _nurseries:
        _nurseries.popitem()[1].close()


def _folder() -> str:
    """The working folder; "" where it was removed."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


def main() -> None:
    """The nursery's process. Requests come on the socket whose number is its argument."""
    serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # torch takes half a second to end in the ordinary way, and its owner waits


def serve(requests: socket.socket) -> None:
    """Forks what is asked for, until the other end is closed. For a process that does nothing else."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the guards are not waited for
    while True:
        data, files, *_ = socket.recv_fds(requests, _MESSAGE, 4)
        if not data:
            return
        request = json.loads(data)
        _import([request["module"], *request["imports"]])
        if _threads() == 1 and os.fork() == 0:
            requests.close()
            _guard(request, files)
        for file in files:
            os.close(file)


def _import(names: Sequence[str]) -> None:
    new = [name for name in names if name not in sys.modules]
    for name in new:
        # A package that is missing or broken is reported by the worker, which imports it again.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    if new:
        # A collection that walked over what is here would copy every page of it into every worker.
        gc.collect()
        gc.freeze()


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _guard(request: dict[str, Any], files: Sequence[int]) -> None:
    """The worker's parent: reports its id and how it ended, and keeps that id from being reused until this is read.

    Ends the worker, with all that it started, when the process that asked for it is gone. Never returns.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *pipes, control = files
    with socket.socket(fileno=control) as told:
        pid = os.fork()
        if pid == 0:
            told.close()
            _work(request, pipes)
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            os.setpgid(pid, pid)
        for file in pipes:
            os.close(file)
        with contextlib.suppress(OSError):  # the process that asked is gone
            told.send(str(pid).encode())
            if _is_alone(pid, told):
                os.killpg(pid, signal.SIGKILL)
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            signalled = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            told.send(str(-ended.si_status if signalled else ended.si_status).encode())
            told.recv(1)  # until that is read
        os.waitpid(pid, 0)
    os._exit(0)


def _is_alone(pid: int, told: socket.socket) -> bool:
    """Waits for the end of a child, or of the process at the other end, which says nothing before; which it was."""
    try:
        ended = os.pidfd_open(pid)
    except OSError:  # kernels before 5.3 cannot: only the child is waited for
        return False
    try:
        return ended not in select.select([ended, told.fileno()], [], [])[0]
    finally:
        os.close(ended)


def _work(request: dict[str, Any], pipes: Sequence[int]) -> None:
    """`python -m module`, without the imports. Never returns."""
    code = 1
    try:
        os.setpgid(0, 0)  # and the guard does so too: whoever comes first
        for number, file in enumerate(pipes):
            os.dup2(file, number)
            if file > _STDERR:
                os.close(file)
        sys.stdin = os.fdopen(_STDIN, closefd=False)
        sys.stdout = os.fdopen(_STDOUT, "w", closefd=False)
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)
        os.environ.clear()
        os.environ.update(request["env"])
        if request["folder"]:
            os.chdir(request["folder"])
        importlib.import_module(request["module"]).main()
        code = 0
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # nothing reads it any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
