"""What a model's head reads of images: computed once, kept in the cache as it comes, so that a killed run goes on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.data import kept
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import Request, decoded, named, view_of
from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import cache_root, remove, size_of, write_bytes
from wdp_edge.models import vit
from wdp_edge.models.fitting import without_head

_BATCH = 32
_MOST_BROKEN = 0.1


def read_by_head(model: Any, images: Tensor) -> Tensor:
    """images: [B, 3, H, W] float32 -> [B, F] float32, timm's `forward_head(…, pre_logits=True)`; the two tokens of a
    distilled model side by side."""
    x = vit.embed(model, images)
    for number in range(len(vit.blocks_of(model))):
        x = vit.run_block(model, number, x)
    return vit.pooled(model, x)


@dataclass(frozen=True)
class Read:
    """What the head reads of those images of a folder that can be read. features: [n, F] float32, in their order.

    left_out: a sentence on the others; "" where there are none.
    """

    images: ImageFolder
    features: Tensor
    left_out: str = ""


@dataclass(frozen=True)
class Features:
    """A model's features of images. The model's own head does not count.

    folder: `features` in the cache. seconds: of work that a killed run may lose.
    """

    model: nn.Module
    preprocessing: Preprocessing
    workers: int = 0
    folder: Path | None = None
    seconds: float = 15.0

    @torch.no_grad()
    def of(self, images: ImageFolder, what: str) -> Read:
        """what: such as "training images".

        Raises InputError where more than a tenth of the images cannot be read, and for features that are no finite
        numbers.
        """
        place = self._place(images)
        parts = _known(place, len(images))
        start = sum(len(part) for part, _ in parts)
        if 0 < start < len(images):
            progress.say(f"{start} of {len(images)} {what} are known from an interrupted run.")
        reasons: dict[str, str] = {}
        if start < len(images):
            parts += self._computed(images, start, place, what, reasons)
        kept.touch(place)
        features, sound = (torch.cat(column) for column in zip(*parts, strict=True))
        if not bool(torch.isfinite(features[sound]).all()):
            raise InputError(
                f"The model's features of {what} are no finite numbers.", "Check the checkpoint: its weights overflow."
            )
        if bool(sound.all()):
            return Read(images, features)
        broken = [images.paths[i] for i in (~sound).nonzero()[:, 0].tolist()]
        said = named(images, {path: reasons.get(path, "not decoded") for path in broken})
        if len(broken) > len(images) * _MOST_BROKEN:
            raise InputError(f"{said}.", "Replace or remove the files and start again.")
        return Read(images.subset(sound.nonzero()[:, 0].tolist()), features[sound], f"{said}; left out.")

    def release(self, *images: ImageFolder) -> None:
        """Once they are no longer needed: keeps them for later runs unless they are large, and forgets older ones."""
        places = [self._place(one) for one in images]
        for place in places:
            if place.is_dir() and size_of(place) > kept.LARGEST:
                remove(place)
        kept.forget(places[0].parent)

    def _place(self, images: ImageFolder) -> Path:
        about = {"model": type(self.model).__name__, "preprocessing": asdict(self.preprocessing)}
        weights = without_head(self.model.state_dict())
        return (self.folder or cache_root() / "features") / kept.digest(about, weights, images)

    def _computed(
        self, images: ImageFolder, start: int, place: Path, what: str, reasons: dict[str, str]
    ) -> list[tuple[Tensor, Tensor]]:
        """From image `start` on: features [b, F], and which images could be read [b] bool. reasons: why not, filled.

        Stored in files that are called by the first image in them. They hold whole batches: after an interruption the
        same images come together, and give the same numbers.
        """
        batches = [range(first, min(first + _BATCH, len(images))) for first in range(start, len(images), _BATCH)]
        requests = (Request.of(images, batch) for batch in batches)
        parts: list[tuple[Tensor, Tensor]] = []
        unsaved: list[tuple[Tensor, Tensor]] = []
        first, saved, storing = start, time.monotonic(), True
        with progress.task(f"features of {what}", len(images) - start) as advance:
            answers = decoded(view_of(images, self.preprocessing), requests, self.workers)
            for batch, answer in zip(batches, answers, strict=True):
                reasons |= answer.errors
                sound = torch.tensor([images.paths[i] not in answer.errors for i in batch])
                unsaved.append((read_by_head(self.model, normalise(answer.images, self.preprocessing)), sound))
                if batch.stop == len(images) or time.monotonic() - saved >= self.seconds:
                    features, sound = (torch.cat(column) for column in zip(*unsaved, strict=True))
                    storing = storing and _stored(place / f"{first}.safetensors", features, sound)
                    parts.append((features, sound))
                    unsaved, first, saved = [], batch.stop, time.monotonic()
                advance(len(batch))
        return parts


def _stored(path: Path, features: Tensor, sound: Tensor) -> bool:
    """Whether that was possible: a cache that cannot be written costs time after an interruption, not the answer."""
    try:
        write_bytes(path, save({"features": features, "read": sound}))
    except SetupError as error:
        progress.say(f"{error.message} Features are not kept: an interrupted run will begin anew.")
        return False
    return True


def _known(place: Path, count: int) -> list[tuple[Tensor, Tensor]]:
    """What is stored of the first images without a gap."""
    parts: list[tuple[Tensor, Tensor]] = []
    start = 0
    while start < count and (path := place / f"{start}.safetensors").is_file():
        try:
            stored = load_file(path)
            parts.append((stored["features"], stored["read"]))
        except (SafetensorError, OSError, KeyError):
            progress.say(f"{path} is damaged; running the model again from image {start + 1} on.")
            break
        start += len(parts[-1][0])
    return parts
