"""Training images for the loops."""

from __future__ import annotations

from wdp_edge.data.stream import Augmentation, StreamOptions, TrainStream
from wdp_edge.parallel import world
from wdp_edge.pipeline.context import Context


def train_stream(context: Context, batch_size: int, first: int) -> TrainStream:
    """This process's augmented training images, never held-back ones.

    first: tells the streams of different stages apart.
    """
    data = context.recipe.data
    options = StreamOptions(
        batch_size=batch_size,
        seed=context.recipe.prune.seed * 16 + first,
        workers=data.workers,
        augmentation=Augmentation(flip=data.flip, min_crop=data.min_crop),
        world=world(),
    )
    return TrainStream(context.train, context.train_indices, context.preprocessing, options)
