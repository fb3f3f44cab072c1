"""Residual streams of many images, kept in a scratch file: the work set is one chunk, whatever the number of images."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wdp_edge.errors import SetupError
from wdp_edge.io.files import disk_error
from wdp_edge.models import vit


class Streams:
    """Two residual streams per image, of the dense and of the cut model: [n, ..., D] float32 each.

    shape: of one image's stream when it is largest; it may shrink where a model's stages change.

    A context manager: the scratch file lives as long as the block.
    Raises SetupError when the disk is too small for it.
    """

    def __init__(self, images: int, shape: Sequence[int], scratch: Path | None = None, chunk: int = 128) -> None:
        self.images, self.chunk = images, chunk
        self._room = (2, images, int(np.prod(shape)))
        self._shapes: dict[tuple[int, int], tuple[int, ...]] = {}
        self._scratch = scratch

    def __enter__(self) -> Streams:
        folder = self._scratch or Path(tempfile.gettempdir())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unlinked at once where the system allows it: a killed run leaves nothing behind.
            self._file = tempfile.TemporaryFile(dir=folder)
            reserve(self._file, int(np.prod(self._room)) * 4)
            self._map = np.memmap(self._file, dtype=np.float32, mode="r+", shape=self._room)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SetupError(
                    f"Not enough room for {np.prod(self._room) * 4e-9:.2g} GB of scratch in {folder}.",
                    "Free space, or lower scratch_gb in [prune.compensate] and calibration_images in [data].",
                ) from error
            raise disk_error(error, folder) from error
        return self

    def __exit__(self, *_: object) -> None:
        del self._map
        self._file.close()

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.images, self.chunk):
            yield slice(start, min(start + self.chunk, self.images))

    def read(self, part: slice) -> tuple[Tensor, Tensor]:
        """Copies of the dense and the cut stream of these images: [c, ..., D] float32 each."""
        return self._read(0, part), self._read(1, part)

    def _read(self, row: int, part: slice) -> Tensor:
        """A part that was never written is zero."""
        shape = self._shapes.get((row, part.start), self._shapes[0, part.start])
        flat = self._map[row, part, : int(np.prod(shape))]
        return torch.from_numpy(flat.copy()).reshape(-1, *shape)

    def write(self, part: slice, dense: Tensor | None, cut: Tensor | None) -> None:
        for row, value in ((0, dense), (1, cut)):
            if value is not None:
                self._shapes[row, part.start] = tuple(value.shape[1:])
                self._map[row, part, : value[0].numel()] = value.flatten(1).numpy()

    def update(self, step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        """Replaces both streams, chunk by chunk, by what `step(dense, cut)` returns."""
        for part in self.chunks():
            self.write(part, *step(*self.read(part)))


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


def stream_shape(model: Any) -> tuple[int, ...]:
    """Shape of one image's stream before the first block, where it is largest."""
    return tuple(vit.embed(model, vit.example_of(model)).shape[1:])


def images_within(model: Any, room: float) -> int:
    """How many images' two streams fit into `room` bytes of disk; at least one."""
    return max(1, int(room / (8 * np.prod(stream_shape(model)))))
