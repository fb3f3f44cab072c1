"""What a model gives for images, kept in the cache: under which name, and how much of it stays."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wdp_edge.data.folder import ImageFolder
from wdp_edge.io.files import remove

LARGEST = 2**28
"""Bytes of what is kept for later runs."""
_KEPT = 4


def digest(about: Mapping[str, Any], weights: Mapping[str, Tensor], folder: ImageFolder) -> str:
    """SHA-256 of the weights, of which images these are, and of the libraries.

    about: all else that decides, as JSON knows it: the model's arguments, how images are prepared.
    """
    found = hashlib.sha256()
    known = {
        **about,
        "versions": {name: version(name) for name in ("torch", "timm", "pillow")},
        "root": os.path.abspath(folder.root),  # noqa: PTH100 (resolve() would follow links)
    }
    found.update(json.dumps(known, sort_keys=True).encode())
    for name, value in sorted(weights.items()):
        found.update(name.encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    for path in folder.paths:
        status = os.stat(f"{folder.root}/{path}")  # noqa: PTH116 (a Path per image takes five times as long)
        found.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def touch(path: Path) -> None:
    """Marks a file or folder as used now, where it is there and ours."""
    with contextlib.suppress(OSError):
        os.utime(path)


def forget(folder: Path) -> None:
    """Removes all but the last used of what `folder` holds. Other runs may do so at the same time."""
    used: list[tuple[float, Path]] = []
    for path in folder.glob("[!.]*"):  # what others are writing begins with a dot
        with contextlib.suppress(FileNotFoundError):
            used.append((path.stat().st_mtime, path))
    for _, path in sorted(used)[:-_KEPT]:
        remove(path)
