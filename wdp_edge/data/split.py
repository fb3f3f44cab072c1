"""Class-balanced choices among training images: those held back, and a sample to calibrate on, which is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wdp_edge.data.folder import ImageFolder
from wdp_edge.errors import InputError

HELD_SHARE = 5


def balanced_counts(sizes: Sequence[int], total: int) -> list[int]:
    """How many to take from groups of these sizes: as equal as possible, `total` in all or everything."""
    counts = [0] * len(sizes)
    left = min(total, sum(sizes))
    while left:
        open_groups = [g for g, size in enumerate(sizes) if counts[g] < size]
        if left < len(open_groups):
            open_groups = open_groups[:left]
        step = min(left // len(open_groups), min(sizes[g] - counts[g] for g in open_groups))
        for group in open_groups:
            counts[group] += step
        left -= step * len(open_groups)
    return counts


def balanced_choice(groups: Sequence[Sequence[int]], counts: Sequence[int], seed: int) -> list[int]:
    """`counts[g]` random members of each group, in ascending order; the same for the same seed."""
    chosen: list[int] = []
    for number, (group, count) in enumerate(zip(groups, counts, strict=True)):
        order = np.random.default_rng([seed, number]).permutation(len(group))
        chosen += [group[i] for i in order[:count]]
    return sorted(chosen)


def hold_out(folder: ImageFolder, count: int, seed: int, least: int = 1) -> tuple[list[int], list[int]]:
    """Indices of the images to train on and of `count` held back, class-balanced, both ascending.

    At most a fifth of a class is held back, but `least` at least where that is no more than half of it, and one where
    it has two; the only image of a class is trained on. least: 2 for metrics that compare images of a class.
    """
    groups = folder.by_class()
    sizes = [max(len(g) // HELD_SHARE, min(least, len(g) // 2)) for g in groups]
    counts = balanced_counts(sizes, max(count, least * len(groups)) if count > 0 else 0)
    held = balanced_choice(groups, counts, seed)
    return sorted(set(range(len(folder))) - set(held)), held


@dataclass(frozen=True)
class Sample:
    """A class-balanced choice of training images. paths: relative to root, in the folder's order."""

    version: int = field(default=1, kw_only=True)
    seed: int
    root: Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def indices(self, folder: ImageFolder) -> list[int]:
        """Where these images stand in `folder`.

        Raises InputError when the folder no longer holds one of them.
        """
        place = {path: i for i, path in enumerate(folder.paths)}
        if missing := [path for path in self.paths if path not in place]:
            raise _vanished(folder.root, missing)
        return [place[path] for path in self.paths]


def _vanished(root: Path, missing: list[str]) -> InputError:
    return InputError(
        f"{len(missing)} of the calibration images are missing from {root}; the first is {missing[0]}.",
        "Restore them or start a new run.",
    )


def balanced_sample(folder: ImageFolder, indices: Sequence[int], count: int, seed: int) -> Sample:
    """`count` of the images at `indices`, class-balanced; all of them when there are fewer."""
    groups = folder.by_class(list(indices))
    chosen = balanced_choice(groups, balanced_counts([len(g) for g in groups], count), seed)
    return Sample(seed, folder.root, tuple(folder.paths[i] for i in chosen))
