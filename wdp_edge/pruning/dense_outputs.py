"""The dense model's outputs for the validation images, kept: they are the same in every run of a model and its images.

On a CPU they cost as much as all other final figures together, with many images more than the run.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wdp_edge import progress
from wdp_edge.data import kept
from wdp_edge.data.loading import eval_batches, labels_of
from wdp_edge.io.files import cache_root, write_bytes
from wdp_edge.pruning.data import Data
from wdp_edge.pruning.inputs import DenseModel


def dense_outputs(model: DenseModel, data: Data, folder: Path | None = None) -> tuple[Tensor, Tensor]:
    """float32 outputs [n, K], read back where an earlier run left them, and labels as `labels_of` gives them.

    folder: `outputs` in the cache when None. Nothing is kept where labels are masks, which have to be decoded anyway,
    nor what is large.
    """
    if data.val.masks:
        return validation_outputs(model, data)
    place = (folder or cache_root() / "outputs") / f"{digest(model, data)}.safetensors"
    labels = labels_of(data.val, range(len(data.val)))
    if (known := _read(place, len(labels))) is not None:
        return known, labels
    outputs, labels = validation_outputs(model, data)
    if outputs.numel() * outputs.element_size() <= kept.LARGEST:
        write_bytes(place, save({"outputs": outputs.contiguous()}))
        kept.forget(place.parent)
    return outputs, labels


@torch.no_grad()
def validation_outputs(model: DenseModel, data: Data) -> tuple[Tensor, Tensor]:
    """The same, computed."""
    model.module.eval()
    title, everything = "dense model on validation images", range(len(data.val))
    batches = eval_batches(data.val, everything, data.preprocessing, 64, data.options.workers, title)
    outputs, labels = zip(*((model.module(data.prepare(images)), part) for images, part in batches), strict=True)
    return torch.cat(outputs), torch.cat(labels)


def digest(model: DenseModel, data: Data) -> str:
    """Of the model, of how images are prepared, and of which images they are."""
    about = {"spec": model.spec.to_json(), "preprocessing": asdict(data.preprocessing)}
    return kept.digest(about, model.module.state_dict(), data.val)


def _read(place: Path, count: int) -> Tensor | None:
    """None where there is nothing, or nothing whole."""
    if not place.is_file():
        return None
    try:
        outputs = load_file(place)["outputs"]
    except (SafetensorError, OSError, KeyError):
        progress.say(f"{place} is damaged; running the dense model again.")
        return None
    kept.touch(place)
    return outputs if len(outputs) == count else None
