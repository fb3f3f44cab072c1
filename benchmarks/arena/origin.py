"""What a cell was made with: the code, and the settings that all methods share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from arena.cells import Cell, Origin
from wdp_edge.config.recipe import Recipe
from wdp_edge.runs.run import settings_digest

_ROOT = Path(__file__).parents[2]
_CODE = ("wdp_edge", "targets", "calibration", "benchmarks/arena")


class MixedOrigins(Exception):
    """Cells that cannot stand in one table."""


def origin_of(recipe: Recipe) -> Origin:
    """Of cells that are made now. Seed, budget and images are in their keys, and so is what follows from images."""
    refit = replace(recipe.prune.compensate, images=1)
    plain = replace(recipe, prune=replace(recipe.prune, seed=0, latency_budget="", out="", compensate=refit))
    return Origin(f"{version('wdp-edge')}+{code_digest()}", settings_digest(plain, Path.cwd()))


def code_digest(root: Path = _ROOT) -> str:
    """First 10 hex digits of the SHA-256 of all Python files that have a say in a cell, with their names."""
    found = hashlib.sha256()
    for folder in _CODE:
        for path in sorted((root / folder).rglob("*.py")):
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:10]


def common(cells: Sequence[Cell]) -> Origin:
    """What all of them were made with. Raises MixedOrigins, naming the cells by what they were made with."""
    by_origin: dict[Origin, list[str]] = {}
    for cell in cells:
        by_origin.setdefault(cell.origin, []).append(cell.name)
    if len(by_origin) != 1:
        lines = [f"code {o.code}, recipe {o.recipe}: {', '.join(names)}" for o, names in by_origin.items()]
        raise MixedOrigins(
            "These cells were not made with the same code and recipe, so no table is drawn of them:\n"
            + "\n".join(lines)
            + "\nTake another --out, or remove those files from its folder cells/ and run the command again."
        )
    return next(iter(by_origin))
