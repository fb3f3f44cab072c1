"""An endless, repeatable stream of augmented training batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import Request, decoded, labels_of, unreadable, view_of
from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.data.worker import Augmentation
from wdp_edge.workers.parallel import World

__all__ = ["Augmentation", "StreamOptions", "TrainStream"]


@dataclass(frozen=True)
class StreamOptions:
    """seed: of order and augmentation. workers: decoding processes; 0 decodes in this one.

    batch_size: of all processes together. world: which rows of each batch are this one's.
    """

    batch_size: int
    seed: int
    workers: int = 0
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 (frozen)
    world: World = World()  # noqa: RUF009 (frozen)


class TrainStream:
    """Batches that depend on (seed, step) alone: the same whatever came before, for any number of workers.

    The stream is one shuffled epoch after the other; a batch may end one and begin the next. Global random
    states are neither read nor changed. With several processes each has every size-th row of the batches that one
    process would have. Raises InputError when a batch cannot be divided among them.
    """

    def __init__(
        self,
        folder: ImageFolder,
        indices: Sequence[int],
        preprocessing: Preprocessing,
        options: StreamOptions,
    ) -> None:
        self.folder = folder
        self.indices = np.asarray(indices, dtype=np.int64)
        self.preprocessing = preprocessing
        self.options = options
        options.world.share(options.batch_size)
        self._epochs: dict[int, np.ndarray] = {}

    def batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches number start, …, stop - 1: normalised images [b, 3, H, W] float32 and their labels.

        b: this process's share of the batch. Labels are as `labels_of` gives them.

        Raises InputError that names the unreadable images of a batch.
        """
        steps = range(start, stop)
        view = view_of(self.folder, self.preprocessing, self.options.augmentation)
        batches = decoded(view, (self._request(step) for step in steps), self.options.workers)
        for step, batch in zip(steps, batches, strict=True):
            if batch.errors:
                raise unreadable(self.folder, batch.errors)
            labels = labels_of(self.folder, self.chosen(step), batch.masks)
            yield normalise(batch.images, self.preprocessing), labels

    def chosen(self, step: int) -> list[int]:
        """This process's images of batch `step`, in order."""
        places = (divmod(place, len(self.indices)) for place in self._places(step))
        return [int(self._epoch(epoch)[offset]) for epoch, offset in places]

    def _places(self, step: int) -> range:
        """Where in the stream they stand."""
        world, first = self.options.world, step * self.options.batch_size
        return range(first + world.rank, first + self.options.batch_size, world.size)

    def _request(self, step: int) -> Request:
        seeds = [(self.options.seed << 64) + place for place in self._places(step)]
        return Request.of(self.folder, self.chosen(step), seeds)

    def _epoch(self, epoch: int) -> np.ndarray:
        """The images in the order of this epoch; the last two are kept, for batches across the border."""
        if epoch not in self._epochs:
            order = np.random.default_rng([self.options.seed, epoch]).permutation(len(self.indices))
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1}
            self._epochs[epoch] = self.indices[order]
        return self._epochs[epoch]
