"""Where a run finds what its recipe names: a project that was renamed, mounted elsewhere or copied goes on.

A run's recipe.toml names what lies in the project relative to itself, and manifest.json says under `places` where all
of it was when the run last pruned or exported, for run folders that were moved out of their project.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from wdp_edge.config.file import RECIPE_FILE, change_paths, load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import read_object
from wdp_edge.io.plain import from_plain, read_as
from wdp_edge.runs.figures import ModelFigures
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import MANIFEST, RECIPE, RESULT

RUNS = "runs"
ARTIFACTS = "artifacts"
# What a run knows by content too, so that it may lie anywhere.
CONTENTS = ("model.checkpoint", "data.train", "data.val", "data.class_order")


def project_of(run: Path) -> Path:
    """The project that a run belongs to: the nearest folder above with a wdp-edge.toml, or else the one with its runs/.

    Absolute; links are not followed.
    """
    whole = _whole(run)
    above = next((folder for folder in whole.parents if (folder / RECIPE_FILE).is_file()), None)
    return above or (whole.parent.parent if whole.parent.name == RUNS else whole.parent)


def below(project: Path, value: str) -> str | None:
    """A path as its project names it, such as "data/train"; None for one that lies elsewhere."""
    for place, root in ((_whole(value), _whole(project)), (Path(value).resolve(), project.resolve())):
        if place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return None


def seen_from(project: Path, recipe: Recipe) -> Recipe:
    """The recipe with paths as the project names them, absolute where they lie elsewhere."""
    return change_paths(recipe, lambda key, value: below(project, value) or str(_whole(value)))


def stored_recipe(recipe: Recipe, run: Path) -> Recipe:
    """The recipe as the run keeps it: paths in the project start at the run's folder, others are absolute."""
    project = project_of(run)

    def change(key: str, value: str) -> str:
        inside = below(project, value)
        return str(_whole(value)) if inside is None else os.path.relpath(project / inside, _whole(run))

    return change_paths(recipe, change)


def places_of(recipe: Recipe) -> dict[str, str]:
    """Where everything that the recipe names is now: absolute paths by setting."""
    found: dict[str, str] = {}

    def note(key: str, value: str) -> str:
        found[key] = str(_whole(value))
        return value

    change_paths(recipe, note)
    return found


def run_recipe(run: Path) -> Recipe:
    """The recipe that a run keeps, with paths that can be opened from here.

    What is not where the run's folder says is looked for where it was. Raises InputError as `load_recipe` does.
    """
    before = _places(run)

    def change(key: str, value: str) -> str:
        stored_whole = Path(value).is_absolute() and not Path(value).is_relative_to(run)
        here = value if stored_whole else os.path.normpath(value)
        moved = key in before and not Path(here).exists() and Path(before[key]).exists()
        return before[key] if moved else here

    return change_paths(load_recipe(run / RECIPE), change)


def check_present(recipe: Recipe, run: Path) -> None:
    """Raises InputError when what the run's recipe names is neither where its project is nor where it was."""
    words = {
        "model.checkpoint": "checkpoint",
        "data.train": "training images",
        "data.val": "validation images",
        "data.class_order": "list of classes",
    }
    for key, place in places_of(recipe).items():
        if key in words and not Path(place).exists():
            table, _, name = key.partition(".")
            raise InputError(
                f"{place} does not exist: {run} has its {words[key]} there.",
                f"Put it back, or write where it is now as {name} in [{table}] of {run / RECIPE}.",
            )


def has_moved(recipe: Recipe, run: Path) -> bool:
    """Whether the run knew the images at another place."""
    before, now = _places(run), places_of(recipe)
    return any(key in before and before[key] != now.get(key) for key in ("data.train", "data.val"))


def read_result(run: Path) -> PruneResult:
    """The result of a run, with files named where the run is now. Raises InputError as `read_as` does."""
    result = read_as(run / RESULT, PruneResult)
    return replace(result, run=run, dense=_here(run, result.dense), shipped=_here(run, result.shipped))


def run_around(path: Path) -> Path | None:
    """The run that an artifact lies in, if any."""
    artifacts = path.parent if path.parent.name else path.parent.absolute()
    run = artifacts.parent
    return run if artifacts.name == ARTIFACTS and (run / MANIFEST).exists() else None


def artifact_in(run: Path, path: Path) -> Path:
    """A file of the run, which may have been moved since the path was written."""
    return run / ARTIFACTS / path.name


def _whole(path: Path | str) -> Path:
    """Absolute, without "..", and with the links that it was named by."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps "..", Path.resolve follows links)


def _here(run: Path, figures: ModelFigures) -> ModelFigures:
    return figures if figures.path is None else replace(figures, path=artifact_in(run, figures.path))


def _places(run: Path) -> dict[str, str]:
    """What manifest.json says; nothing in runs of before it was said."""
    path = run / MANIFEST
    known = read_object(path).get("places", {}) if path.exists() else {}
    return from_plain(dict[str, str], known, f"{path}: places")
