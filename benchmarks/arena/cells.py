"""One result each: kept in a file of its own, so that a stopped comparison goes on and a longer one reuses it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as


@dataclass(frozen=True)
class Origin:
    """What a cell was made with. code: the package's version and a digest of its files. recipe: digest of the settings
    that all methods share."""

    code: str
    recipe: str


def slug(text: str) -> str:
    """For the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


@dataclass(frozen=True)
class Key:
    """Which cell: a method at one share of the dense latency, with one seed.

    images: training images seen in all (search and recovery). compensated: refitted in closed form by wdp-edge before
    recovery.
    """

    method: str
    share: float
    seed: int
    images: int
    compensated: bool

    @property
    def name(self) -> str:
        parts = [self.method, f"{100 * self.share:g}", f"seed{self.seed}", f"{self.images}"]
        parts += ["compensated"] * self.compensated
        return slug(" ".join(parts))


@dataclass(frozen=True)
class Cell(Key):
    """What came out.

    accuracy: of the file through its own runtime on all test images. made: latency over the dense file's when the cell
    was made. timed: the same from one interleaved run with all files of the same share; None until that run.
    steps: optimiser steps of search and recovery. lr, features: of the recovery; 0 without one.
    """

    accuracy: float
    made: float
    macs: int
    parameters: int
    seconds: float
    path: Path
    structure: dict[str, Any]
    timed: float | None = None
    origin: Origin = Origin("unknown", "unknown")
    steps: int = 0
    lr: float = 0.0
    features: float = 0.0


class Store:
    """The cells in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "cells").mkdir(parents=True, exist_ok=True)

    def path(self, key: Key) -> Path:
        return self.folder / "cells" / f"{key.name}.json"

    def file(self, key: Key, suffix: str) -> Path:
        """Where the cell's artifact belongs."""
        return self.folder / "files" / f"{key.name}{suffix}"

    def find(self, key: Key) -> Cell | None:
        path = self.path(key)
        return read_as(path, Cell) if path.exists() else None

    def put(self, cell: Cell) -> None:
        write_json(self.path(cell), cell)

    def all(self) -> list[Cell]:
        return [read_as(path, Cell) for path in sorted((self.folder / "cells").glob("*.json"))]
