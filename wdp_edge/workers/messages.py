"""How a session and its worker processes talk: one JSON line, then the bytes it announces; the worker's end too."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import IO, Any

from wdp_edge.workers.failures import failed

Handler = Callable[[dict[str, Any], IO[bytes], IO[bytes]], None]
PAYLOAD = "payload_bytes"


def serve(handler: Handler) -> None:
    """Reads the request from stdin and runs `handler(request, requests, replies)`.

    An exception goes back as a message of the one error family, which names the file with its traceback where it is a
    defect: only a process that is killed says nothing.
    """
    requests, replies = sys.stdin.buffer, private_stdout()
    message = read_message(requests)
    if message is None:
        return
    try:
        handler(message[0], requests, replies)
    except Exception as error:
        told = failed(str(message[0].get("what", "the work")), error)
        said = {"kind": type(told).__name__, "message": told.message, "hint": told.hint}
        write_message(replies, {"error": said})


def private_stdout() -> IO[bytes]:
    """The pipe that was stdout. From now on whatever else writes to stdout, C++ included, lands on stderr."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private


def write_message(file: IO[bytes], data: dict[str, Any], payload: bytes = b"") -> None:
    """Writes and flushes one message."""
    file.write(json.dumps({**data, PAYLOAD: len(payload)}).encode() + b"\n")
    file.write(payload)
    file.flush()


def read_message(file: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next message, or None at the end of the stream, also where it ends within a message."""
    line = file.readline()
    if not line.endswith(b"\n"):
        return None
    data = json.loads(line)
    size = data.pop(PAYLOAD)
    payload = file.read(size)
    return (data, payload) if len(payload) == size else None
