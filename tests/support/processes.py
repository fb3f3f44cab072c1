"""Processes as torchrun starts them, without torchrun: none of them is ended because another one was."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def start_together(size: int, words: Sequence[object], **environment: str) -> list[subprocess.Popen[str]]:
    """`python WORDS` as every rank of `size` processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env={**os.environ, **shared, **environment, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def run_together(size: int, words: Sequence[object], **environment: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of every rank."""
    processes = start_together(size, words, **environment)
    said = [process.communicate(timeout=600) for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]
