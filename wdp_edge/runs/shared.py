"""What runs that differ in their budget alone have in common: measured or computed once, copied to the others."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from wdp_edge.config.recipe import Recipe
from wdp_edge.io.files import atomic_folder, atomic_path, read_json, read_object
from wdp_edge.io.plain import read_as
from wdp_edge.protocols.target import Artifact
from wdp_edge.runs.places import artifact_in, project_of, run_recipe
from wdp_edge.runs.run import Run, settings_digest
from wdp_edge.runs.stages import MANIFEST

DENSE_FILE, AXES = "dense-artifact", "axes"
STAGES = ("dense", "plausible", DENSE_FILE, "table", "saliency", AXES)
"""Stages that come before the budget."""
_BASIS = ("checkpoint", "data", "device", "versions")


def take_shared(sibling: Path, run: Run) -> None:
    """Copies finished stages of another run that no budget decides, with their files, where this run lacks them.

    Nothing is taken from a run of another recipe (but for its budget), checkpoint or device, or with other images or
    packages. A record comes after what it names, so a copy that was broken off is made again.
    """
    if sibling == run.path or not (sibling / MANIFEST).exists() or not _alike(sibling, run):
        return
    for name in STAGES:
        record = sibling / "stages" / f"{name}.json"
        if not record.exists() or (run.path / "stages" / record.name).exists():
            continue
        if name == DENSE_FILE:
            _take_artifact(artifact_in(sibling, read_as(record, Artifact).path), run)
        if name == AXES and (folder := record.with_suffix("")).is_dir():
            _copy(folder, run.path / "stages" / AXES)
        read_json(record)
        _copy(record, run.path / "stages" / record.name)


def _alike(sibling: Path, run: Run) -> bool:
    theirs, ours = read_object(sibling / MANIFEST), run.manifest()
    settings = [
        settings_digest(without_budget(recipe), project_of(path))
        for recipe, path in ((run_recipe(sibling), sibling), (run.recipe, run.path))
    ]
    return settings[0] == settings[1] and all(theirs.get(name) == ours.get(name) for name in _BASIS)


def without_budget(recipe: Recipe) -> Recipe:
    return replace(recipe, prune=replace(recipe.prune, latency_budget=""))


def _take_artifact(file: Path, run: Run) -> None:
    """An artifact with what lies beside it."""
    copy = artifact_in(run.path, file)
    for beside in sorted(file.parent.glob(f"{file.name}.*")):
        _copy(beside, copy.with_name(beside.name))
    _copy(file, copy)
    run.add_artifact(copy)


def _copy(source: Path, path: Path) -> None:
    if source.is_dir():
        with atomic_folder(path) as unfinished:
            shutil.copytree(source, unfinished, dirs_exist_ok=True)
    else:
        with atomic_path(path) as unfinished:
            shutil.copyfile(source, unfinished)
