"""Training state on disk: written whole, read back exactly, so that a killed run ends where an undisturbed one does."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wdp_edge.errors import InputError
from wdp_edge.io.files import write_bytes
from wdp_edge.workers.parallel import broadcast, world


def save_state(path: Path, state: dict[str, Any]) -> None:
    """state: nested dicts and lists of tensors, numbers and strings."""
    made = io.BytesIO()
    torch.save(state, made)
    write_bytes(path, made.getbuffer())


def load_state(path: Path) -> dict[str, Any] | None:
    """None when there is no checkpoint for the first process. Raises InputError when it cannot be read."""
    if not broadcast(path.exists()):
        return None
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"Checkpoint {path} is corrupt.", f"Delete {path} to train this stage again.") from error


class Checkpointer:
    """Saves `state()` to `path` when `seconds` have passed since the last time. Of several processes the first does."""

    def __init__(self, path: Path, seconds: float, state: Callable[[], dict[str, Any]]) -> None:
        self.path, self.seconds, self.state = path, seconds, state
        self._last = time.monotonic()

    def __call__(self) -> None:
        if world().leads and time.monotonic() - self._last >= self.seconds:
            save_state(self.path, self.state())
            self._last = time.monotonic()
