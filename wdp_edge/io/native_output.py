"""What native code prints past Python, kept off standard output."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to(descriptor: int) -> Iterator[None]:
    """Whatever is written to descriptor 1 meanwhile goes to `descriptor`."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        flush_native()
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Whatever is written to descriptor 1 meanwhile is lost."""
    with open(os.devnull, "wb") as null, stdout_to(null.fileno()):  # noqa: PTH123
        yield


def flush_native() -> None:
    """Empties the C library's buffers, which would otherwise reach the restored standard output later."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
