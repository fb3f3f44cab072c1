"""What runs of one model have in common that differ in budget, target or device: done once, copied to the others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wdp_edge.config.budgets import budget_setting, with_budget
from wdp_edge.config.recipe import PruneRecipe, Recipe
from wdp_edge.io.files import atomic_folder, atomic_path, read_json, read_object
from wdp_edge.io.plain import read_as
from wdp_edge.protocols.target import Artifact
from wdp_edge.runs.places import artifact_in, project_of, run_recipe
from wdp_edge.runs.run import Run, settings_digest
from wdp_edge.runs.stages import MANIFEST

DENSE_FILE, TABLE, AXES = "dense-artifact", "table", "axes"
OF_MODEL = ("dense", "plausible", "saliency", AXES)
"""Stages that know neither budget, target nor device."""
STAGES = ("dense", "plausible", DENSE_FILE, TABLE, "saliency", AXES)
"""Stages that no budget decides; the table hangs on whether it is of time or of something counted."""
PACKAGES = ("wdp-edge", "torch", "timm", "numpy", "scipy", "scikit-learn")
"""Packages that every stage needs, besides the target's own."""
_BASIS = ("checkpoint", "data", "device", "versions")


def take_shared(sibling: Path, run: Run) -> None:
    """Copies finished stages of another run that no budget decides, with their files, where this run lacks them; from
    one with another target or device, those that know neither.

    Nothing is taken from a run of another recipe (but for these three), checkpoint, images or packages. A record comes
    after what it names, so a copy that was broken off is made again.
    """
    if sibling == run.path or not (sibling / MANIFEST).exists():
        return
    for name in _common(sibling, run):
        record = sibling / "stages" / f"{name}.json"
        if not record.exists() or (run.path / "stages" / record.name).exists():
            continue
        if name == DENSE_FILE:
            _take_artifact(artifact_in(sibling, read_as(record, Artifact).path), run)
        if name == AXES and (folder := record.with_suffix("")).is_dir():
            _copy(folder, run.path / "stages" / AXES)
        read_json(record)
        _copy(record, run.path / "stages" / record.name)


def _common(sibling: Path, run: Run) -> tuple[str, ...]:
    """Stages that the two have in common."""
    theirs, ours = read_object(sibling / MANIFEST), run.manifest()
    before, recipe = run_recipe(sibling), run.recipe
    digests = [
        settings_digest(without_goal(one), project_of(path)) for one, path in ((before, sibling), (recipe, run.path))
    ]
    if digests[0] != digests[1]:
        return ()
    if where(before) == where(recipe):
        shared = STAGES if all(theirs.get(name) == ours.get(name) for name in _BASIS) else ()
        alike = budget_setting(before.prune) == budget_setting(recipe.prune)
        return shared if alike else tuple(name for name in shared if name != TABLE)
    same = all(theirs.get(name) == ours.get(name) for name in ("checkpoint", "data"))
    return OF_MODEL if same and _packages(theirs) == _packages(ours) else ()


def _packages(manifest: Mapping[str, Any]) -> list[Any]:
    versions = manifest.get("versions", {})
    return [versions.get(name) for name in ("python", *PACKAGES)]


def where(recipe: Recipe) -> tuple[str, str]:
    """Target and device."""
    return recipe.prune.target, recipe.prune.device


def without_goal(recipe: Recipe) -> Recipe:
    """Without the budget, and with the usual target and device."""
    usual = PruneRecipe()
    own = replace(with_budget(recipe.prune, ""), target=usual.target, device=usual.device)
    return replace(recipe, prune=own)


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
