"""Residual streams of many images, kept in a scratch file: the work set is one chunk, whatever the number of images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from wdp_edge.files import disk_error


class Streams:
    """Two residual streams per image, of the dense and of the cut model: [n, N, D] float32 each.

    A context manager: the scratch file lives as long as the block.
    Raises SetupError when the disk is too small for it.
    """

    def __init__(self, images: int, tokens: int, width: int, scratch: Path | None = None, chunk: int = 128) -> None:
        self.images, self.chunk = images, chunk
        self._shape = (2, images, tokens, width)
        self._scratch = scratch

    def __enter__(self) -> Streams:
        folder = self._scratch or Path(tempfile.gettempdir())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Unlinked at once where the system allows it: a killed run leaves nothing behind.
            self._file = tempfile.TemporaryFile(dir=folder)
            self._file.truncate(int(np.prod(self._shape)) * 4)
            self._map = np.memmap(self._file, dtype=np.float32, mode="r+", shape=self._shape)
        except OSError as error:
            raise disk_error(error, folder) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._map
        self._file.close()

    def chunks(self) -> Iterator[slice]:
        for start in range(0, self.images, self.chunk):
            yield slice(start, min(start + self.chunk, self.images))

    def read(self, part: slice) -> tuple[Tensor, Tensor]:
        """Copies of the dense and the cut stream of these images: [c, N, D] float32 each."""
        return torch.from_numpy(self._map[0, part].copy()), torch.from_numpy(self._map[1, part].copy())

    def write(self, part: slice, dense: Tensor | None, cut: Tensor | None) -> None:
        for row, value in ((0, dense), (1, cut)):
            if value is not None:
                self._map[row, part] = value.numpy()

    def update(self, step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        """Replaces both streams, chunk by chunk, by what `step(dense, cut)` returns."""
        for part in self.chunks():
            self.write(part, *step(*self.read(part)))
