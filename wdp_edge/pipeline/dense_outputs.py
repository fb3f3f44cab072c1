"""The dense model's outputs for the validation images, kept: they are the same in every run of a model and its images.

On a CPU they cost as much as all other final figures together, with many images more than the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wdp_edge import progress
from wdp_edge.data.labels import labels_of
from wdp_edge.files import cache_root, write_bytes
from wdp_edge.pipeline.context import Context

_LARGEST = 2**28  # bytes of a file that is kept
_KEPT = 4  # files


def dense_outputs(context: Context, folder: Path | None = None) -> tuple[Tensor, Tensor]:
    """float32 outputs [n, K], read back where an earlier run left them, and labels as `labels_of` gives them.

    folder: `outputs` in the cache when None. Nothing is kept where labels are masks, which have to be decoded anyway,
    nor what is large.
    """
    title = "dense model on validation images"
    if context.val.masks:
        return context.validation_outputs(context.dense, title)
    place = (folder or cache_root() / "outputs") / f"{digest(context)}.safetensors"
    labels = labels_of(context.val, range(len(context.val)))
    if (kept := _read(place, len(labels))) is not None:
        return kept, labels
    outputs, labels = context.validation_outputs(context.dense, title)
    if outputs.numel() * outputs.element_size() <= _LARGEST:
        write_bytes(place, save({"outputs": outputs.contiguous()}))
        _forget(place.parent)
    return outputs, labels


def digest(context: Context) -> str:
    """SHA-256 of the weights, of how images are prepared, of which images they are, and of the libraries."""
    found = hashlib.sha256()
    about = {
        "spec": context.tools.spec.to_json(),
        "preprocessing": asdict(context.preprocessing),
        "versions": {name: version(name) for name in ("torch", "timm", "pillow")},
        "root": str(context.val.root.absolute()),
    }
    found.update(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(context.dense.state_dict().items()):
        found.update(name.encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    for path in context.val.paths:
        status = os.stat(f"{context.val.root}/{path}")  # noqa: PTH116 (a Path per image takes five times as long)
        found.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return found.hexdigest()


def _read(place: Path, count: int) -> Tensor | None:
    """None where there is nothing, or nothing whole."""
    if not place.is_file():
        return None
    try:
        outputs = load_file(place)["outputs"]
    except (SafetensorError, OSError, KeyError):
        progress.say(f"{place} is damaged; running the dense model again.")
        return None
    with contextlib.suppress(FileNotFoundError):  # forgotten by another run since
        os.utime(place)
    return outputs if len(outputs) == count else None


def _forget(folder: Path) -> None:
    """Removes all but the last used files. Other runs may do so at the same time."""
    used: list[tuple[float, Path]] = []
    for path in folder.glob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError):
            used.append((path.stat().st_mtime, path))
    for _, path in sorted(used)[:-_KEPT]:
        path.unlink(missing_ok=True)
