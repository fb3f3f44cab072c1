"""A worker's end of the conversation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import IO, Any

from wdp_edge.devices.messages import read_message, write_message
from wdp_edge.failures import failed

Handler = Callable[[dict[str, Any], IO[bytes], IO[bytes]], None]


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
