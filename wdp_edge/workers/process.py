"""A worker process and its end of the conversation: started, spoken to, and never left behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Sequence
from typing import IO, Any, Self

from wdp_edge.errors import InputError, SetupError
from wdp_edge.workers.failures import check_temporary_folder, no_room
from wdp_edge.workers.messages import read_message, write_message
from wdp_edge.workers.nursery import start_worker

SILENCE_SECONDS = 600.0
_TAIL = 300


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return f"signal {number}, {signal.Signals(number).name}"
    return f"signal {number}"


class Tail:
    """The last of what a process says, kept in memory: the temporary folder may be what is full."""

    def __init__(self, most: int = 1 << 16) -> None:
        self.most, self._bytes = most, b""
        self._thread: threading.Thread | None = None

    def follow(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(ValueError, OSError):  # the pipe was closed while we waited for it
            while part := self._pipe.read1(1 << 16):  # type: ignore[attr-defined]
                self._bytes = (self._bytes + part)[-self.most :]

    def text(self) -> str:
        """All there is of a process that has ended."""
        if self._thread is not None:
            self._thread.join(timeout=5.0)
        return self._bytes.decode(errors="replace")

    def close(self) -> None:
        """What the process started may still hold the other end: nothing waits for that."""
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            if not self._thread.is_alive():
                self._pipe.close()


class WorkerProcess:
    """`python -m module` with a request; replies arrive as messages.

    A runtime that crashes takes the worker down, not the session. silence_seconds: how long a worker may say
    nothing before it counts as hung. imports: modules that it will need, imported once for all workers.
    """

    def __init__(
        self,
        module: str,
        request: dict[str, Any],
        threads: int = 1,
        silence_seconds: float = SILENCE_SECONDS,
        imports: Sequence[str] = (),
    ) -> None:
        self.what = request.get("what", module)
        self.silence_seconds = silence_seconds
        # A thread that spins while it waits would take the core from the one that is timed.
        limits = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        check_temporary_folder()
        self._said = Tail()
        self._process = start_worker(module, imports, {**os.environ, **limits})
        self._replies: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._said.follow(self._process.stderr)
        self.send(request)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # the pipe was closed while we waited for it
            while (message := read_message(self._process.stdout)) is not None:
                self._replies.put(message)
        self._replies.put(None)

    def send(self, data: dict[str, Any], payload: bytes = b"") -> None:
        """A message to the worker. One that has died already is noticed by `receive`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            write_message(self._process.stdin, data, payload)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The worker's next message.

        Raises the worker's own InputError or SetupError, and SetupError when it crashed or went silent.
        """
        try:
            message = self._replies.get(timeout=self.silence_seconds)
        except queue.Empty:
            raise SetupError(
                f"Worker process hung: {self.what} (silent for {self.silence_seconds:.0f} s).",
                "Run again; if it hangs again, try another file or precision.",
            ) from None
        if message is None:
            raise self._crash()
        data, payload = message
        if error := data.get("error"):
            kind = InputError if error["kind"] == InputError.__name__ else SetupError
            raise kind(error["message"], error["hint"])
        return data, payload

    def _crash(self) -> SetupError:
        code = self._process.wait()
        lines = self._said.text().strip().splitlines()
        last = "".join(c for c in lines[-1][-_TAIL:] if c.isprintable()) if lines else ""
        if code >= 0 and (full := no_room()) is not None:
            return SetupError(f"Worker process ended without an answer: {self.what}. {full.message}", full.hint)
        if code >= 0:
            return SetupError(
                f"Worker process ended without an answer: {self.what} (exit code {code}{f': {last}' if last else ''}).",
                "`wdp-edge doctor` shows whether all packages are sound.",
            )
        said = f", last words: {last}" if last else ""
        return SetupError(
            f"Worker process crashed: {self.what} ({_signal(-code)}{said}).",
            "The file may be damaged or need more memory than there is: export it again, or free memory.",
        )

    def close(self) -> None:
        """Ends the worker, whatever it is doing, and what it has started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # ended meanwhile
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent bytes of a worker that is gone
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
