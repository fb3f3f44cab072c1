"""One result each: kept in a file of its own, so that a stopped comparison goes on and a longer one reuses it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wdp_edge.files import write_json
from wdp_edge.plain import read_as


@dataclass(frozen=True)
class Cell:
    """What one method gave for one share of the dense latency and one seed.

    images: training images seen in all (search and recovery). compensated: refitted in closed form by wdp-edge before
    recovery. accuracy: of the file through its own runtime on all test images. timed: latency over the dense file's,
    from one interleaved run with all files of the same share; None until that run. made: the same when it was made.
    """

    method: str
    share: float
    seed: int
    images: int
    compensated: bool
    accuracy: float
    made: float
    macs: int
    parameters: int
    seconds: float
    path: Path
    structure: dict[str, Any] = field(default_factory=dict)
    timed: float | None = None

    @property
    def variant(self) -> tuple[bool, bool]:
        """(trained, compensated)"""
        return self.images > 0, self.compensated


@dataclass(frozen=True)
class Key:
    """Which cell: the part of a Cell that is known before it is made."""

    method: str
    share: float
    seed: int
    images: int
    compensated: bool

    @property
    def name(self) -> str:
        parts = [self.method, f"{100 * self.share:g}", f"seed{self.seed}", f"{self.images}"]
        parts += ["compensated"] * self.compensated
        return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower())


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
        key = Key(cell.method, cell.share, cell.seed, cell.images, cell.compensated)
        write_json(self.path(key), cell)

    def all(self) -> list[Cell]:
        return [read_as(path, Cell) for path in sorted((self.folder / "cells").glob("*.json"))]
