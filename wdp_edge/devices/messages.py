"""How a session talks to its worker processes: one JSON line, then the bytes it announces."""

from __future__ import annotations

import json
from typing import IO, Any

PAYLOAD = "payload_bytes"


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
