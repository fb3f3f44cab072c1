"""Which training images an artifact was calibrated on: chosen with a seed, stored, found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.split import balanced_choice, balanced_counts
from wdp_edge.errors import InputError

SAMPLE_VERSION = 1


@dataclass(frozen=True)
class Sample:
    """A class-balanced choice of training images. paths: relative to root, in the folder's order."""

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

    def to_json(self) -> dict[str, Any]:
        return {"version": SAMPLE_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sample:
        """Parses `to_json`'s output.

        Raises InputError for another version, missing fields, and images that do not exist any more.
        """
        try:
            if data["version"] != SAMPLE_VERSION:
                raise ValueError(f"version {data['version']} instead of {SAMPLE_VERSION}")
            sample = cls(int(data["seed"]), Path(data["root"]), tuple(str(p) for p in data["paths"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not a calibration sample: {type(error).__name__}: {error}.", "Start a new run."
            ) from error
        if missing := [path for path in sample.paths if not (sample.root / path).is_file()]:
            raise _vanished(sample.root, missing)
        return sample


def _vanished(root: Path, missing: list[str]) -> InputError:
    return InputError(
        f"{len(missing)} of the calibration images are gone from {root}, the first is {missing[0]}.",
        "Restore them or start a new run.",
    )


def balanced_sample(folder: ImageFolder, indices: Sequence[int], count: int, seed: int) -> Sample:
    """`count` of the images at `indices`, class-balanced; all of them when there are fewer."""
    groups = folder.by_class(list(indices))
    chosen = balanced_choice(groups, balanced_counts([len(g) for g in groups], count), seed)
    return Sample(seed, folder.root, tuple(folder.paths[i] for i in chosen))
