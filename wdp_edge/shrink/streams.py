"""What many images give inside a model, kept in a scratch file: the work set is one chunk, whatever their number."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from wdp_edge.errors import SetupError
from wdp_edge.io.files import disk_error
from wdp_edge.models import vit

_BYTES = 4  # of a float32


class Streams:
    """Rows of tensors, one of each image in every row: [n, ...] float32.

    sizes: per row how many numbers of an image there are at most; their shape may change where a model's stages do.

    A context manager: the scratch file lives as long as the block.
    Raises SetupError when the disk is too small for it.
    """

    def __init__(self, images: int, sizes: Sequence[int], scratch: Path | None = None, chunk: int = 128) -> None:
        self.images, self.chunk, self._sizes = images, chunk, tuple(sizes)
        self._shapes: dict[tuple[int, int], tuple[int, ...]] = {}
        self._scratch = scratch

    def __enter__(self) -> Streams:
        folder, room = self._scratch or Path(tempfile.gettempdir()), _BYTES * self.images * sum(self._sizes)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unlinked at once where the system allows it: a killed run leaves nothing behind.
            self._file = tempfile.TemporaryFile(dir=folder)
            reserve(self._file, room)
            whole = np.memmap(self._file, dtype=np.float32, mode="r+", shape=(room // _BYTES,))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SetupError(
                    f"Not enough room for {room * 1e-9:.2g} GB of scratch in {folder}.",
                    "Free space, or lower scratch_gb in [prune.compensate] and calibration_images in [data].",
                ) from error
            raise disk_error(error, folder) from error
        ends = [self.images * end for end in accumulate(self._sizes)]
        self._rows = [
            whole[end - self.images * size : end].reshape(self.images, size)
            for end, size in zip(ends, self._sizes, strict=True)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        del self._rows
        self._file.close()

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.images, self.chunk):
            yield slice(start, min(start + self.chunk, self.images))

    def fill(self, model: nn.Module, images: Images, prepare: Callable[[Tensor], Tensor]) -> None:
        """Row 0 with the model's stream before the first block. images: [n, 3, H, W] uint8; prepare: uint8 ->
        normalised float32."""
        for part, pixels in zip(self.chunks(), images.split(self.chunk), strict=True):
            self.write(0, part, vit.embed(model, prepare(pixels)))

    def read(self, row: int, part: slice) -> Tensor:
        """A copy of what was written there: [c, ...] float32."""
        shape = self._shapes[row, part.start]
        return torch.from_numpy(self._rows[row][part, : int(np.prod(shape))].copy()).reshape(-1, *shape)

    def write(self, row: int, part: slice, value: Tensor) -> None:
        """value: [c, ...] float32."""
        self._shapes[row, part.start] = tuple(value.shape[1:])
        self._rows[row][part, : value[0].numel()] = value.flatten(1).numpy()


class DenseStream:
    """A model's residual stream before each of its sub-layers and after the last, for many images.

    Computed where it is first asked for, after `rewind`. keep: all of it stays, for models that are fitted one after
    the other; otherwise a chunk of images moves on and never back. A context manager, which raises as `Streams` does.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Images,
        prepare: Callable[[Tensor], Tensor],
        scratch: Path | None = None,
        keep: bool = False,
    ) -> None:
        """images: [n, 3, H, W] uint8; prepare: uint8 -> normalised float32."""
        self.model, self.keep = model, keep
        self.steps = [step for step in vit.sublayers(model) if step is not None]
        self._images, self._prepare = images, prepare
        rows = len(self.steps) + 1 if keep else 1
        self.streams = Streams(len(images), [stream_size(model)] * rows, scratch)
        self._reached: dict[int, int] = {}

    def __enter__(self) -> DenseStream:
        self.streams.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.streams.__exit__(*error)

    def __len__(self) -> int:
        return self.streams.images

    def rewind(self) -> None:
        """To the beginning, for the next model: where the stream is not kept, images are embedded again."""
        if not (self.keep and self._reached):
            self.streams.fill(self.model, self._images, self._prepare)
            self._reached = {part.start: 0 for part in self.streams.chunks()}

    def chunks(self) -> Iterator[slice]:
        """Images that are worked on together."""
        return self.streams.chunks()

    def at(self, place: int, part: slice) -> Tensor:
        """The stream [c, ..., D] float32 before sub-layer `place`, of those that the model has, from 0."""
        reached = self._reached[part.start]
        if place <= reached:
            assert self.keep or place == reached, "the stream has moved on"
            return self.streams.read(place if self.keep else 0, part)
        x = self.streams.read(reached if self.keep else 0, part)
        for number in range(reached, place):
            x = self.steps[number](x)
            if self.keep:
                self.streams.write(number + 1, part, x)
        if not self.keep:
            self.streams.write(0, part, x)
        self._reached[part.start] = place
        return x


def reserve(file: IO[bytes], size: int) -> None:
    """Makes the file `size` bytes long. Raises OSError where the disk has no room for them.

    A file that is only made long would have its room found when it is written, through memory: for want of room the
    process would die of a signal.
    """
    file.truncate(size)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)


class Images(Protocol):
    """Many images, in batches: a tensor [n, 3, H, W] uint8, or what decodes them when they are asked for."""

    def __len__(self) -> int: ...

    def split(self, size: int, /) -> Iterable[Tensor]: ...


def stream_size(model: Any) -> int:
    """Numbers in one image's stream before the first block, where it is largest."""
    return vit.embed(model, vit.example_of(model)).numel()


@torch.no_grad()
def written_size(model: Any) -> int:
    """Numbers of one image that the layer reads which reads most of those that write to the stream."""
    x, most = vit.embed(model, vit.example_of(model)), 0
    for sublayer in vit.sublayers(model):
        if sublayer is not None:
            most = max(most, sublayer.written(x).numel())
            x = sublayer(x)
    return most


def images_within(model: Any, room: float) -> int:
    """How many images `room` bytes of disk are enough for, when a model cut from this one is refitted; at least one."""
    return max(1, int(room / (_BYTES * (2 * stream_size(model) + written_size(model)))))


def recordable(model: Any, images: int, room: float) -> bool:
    """Whether the kept stream of so many images fits into `room` bytes, beside what a model cut from this one needs."""
    each = stream_size(model) * (len(vit.sublayers(model)) + 2) + written_size(model)
    return _BYTES * images * each <= room
