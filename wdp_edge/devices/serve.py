"""A worker's end of the conversation."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import IO, Any

from wdp_edge.devices.messages import read_message, write_message
from wdp_edge.errors import WdpError

Handler = Callable[[dict[str, Any], IO[bytes], IO[bytes]], None]


def serve(handler: Handler) -> None:
    """Reads the request from stdin and runs `handler(request, requests, replies)`.

    A WdpError goes back as a message; any other exception ends the process with its traceback on stderr.
    """
    requests, replies = sys.stdin.buffer, private_stdout()
    message = read_message(requests)
    if message is None:
        return
    try:
        handler(message[0], requests, replies)
    except WdpError as error:
        said = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        write_message(replies, {"error": said})


def private_stdout() -> IO[bytes]:
    """The pipe that was stdout. From now on whatever else writes to stdout, C++ included, lands on stderr."""
    sys.stdout.flush()
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return private
