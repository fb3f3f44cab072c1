"""One model, several budgets, targets or devices: a run for each, and once for all of them what none decides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wdp_edge import progress
from wdp_edge.config.budgets import budget_label
from wdp_edge.config.recipe import Recipe
from wdp_edge.errors import UnreachableBudget
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.prune import pruned
from wdp_edge.runs.run import run_path
from wdp_edge.runs.sweeps import (
    Member,
    SweepResult,
    origin_of,
    read_sweep,
    siblings_of,
    single_recipes,
    sweep_path,
    write_sweep,
)
from wdp_edge.workers.parallel import wait, world


def sweep(recipe: Recipe, command: Sequence[str] = ()) -> SweepResult:
    """Prunes to each budget of the recipe, "30%,50%,70%", for each of its targets and devices.

    Saliency and principal axes are computed once; a latency table is measured once for each target and device. Every
    budget has an ordinary run, in the folder that it would have alone: what is there is not done again, and a further
    budget, target or device joins those of before. A budget that is out of reach has an entry that says so.
    Raises InputError and SetupError as `prune` does, for all runs before the first one begins.
    """
    recipes, folder, origin = single_recipes(recipe), sweep_path(recipe), origin_of(recipe)
    inputs = all_inputs(recipes)
    for number, one in enumerate(inputs, 1):
        own, run, error = one.recipe.prune, run_path(one.recipe), ""
        progress.say(f"run {number} of {len(inputs)}: {budget_label(own)}, {own.target}, {own.device}")
        try:
            pruned(one, command, siblings_of(recipe, origin))
        except UnreachableBudget as unreachable:
            error = unreachable.message
            progress.say(error)
        if world().leads:
            place = Path(os.path.relpath(run, folder)).as_posix()
            write_sweep(folder, origin, [Member(budget_label(own), place, error, own.target, own.device)])
        wait()
    return read_sweep(folder)


def all_inputs(recipes: Sequence[Recipe]) -> list[Inputs]:
    """Of each recipe; the model and the images are loaded once. Raises InputError and SetupError for whatever does not
    fit together in one of them, and for a device that is not there."""
    first = Inputs.of(recipes[0])
    found = [first, *(first.elsewhere(recipe) for recipe in recipes[1:])]
    for inputs in found:
        inputs.check_prunable()
    if world().leads:
        for device in {inputs.recipe.prune.device: inputs.tools.device for inputs in found}.values():
            device.probe()
    return found
