"""One model, several budgets: a run for each, and once for all of them what no budget decides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from wdp_edge import progress
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
    """Prunes to each latency budget of the recipe, "30%,50%,70%"; the latency table, saliency and principal axes are
    measured and computed once.

    Every budget has an ordinary run, in the folder that it would have alone: what is there is not done again, and a
    further budget joins those of before. One that is out of reach has an entry that says so.
    Raises InputError and SetupError as `prune` does.
    """
    inputs, folder, origin = Inputs.of(recipe), sweep_path(recipe), origin_of(recipe)
    recipes = single_recipes(recipe)
    for number, one in enumerate(recipes, 1):
        budget, run = one.prune.latency_budget, run_path(one)
        progress.say(f"budget {number} of {len(recipes)}: {budget}")
        error = ""
        try:
            pruned(inputs.with_budget(one), command, siblings_of(recipe, origin))
        except UnreachableBudget as unreachable:
            error = unreachable.message
            progress.say(error)
        if world().leads:
            write_sweep(folder, origin, [Member(budget, Path(os.path.relpath(run, folder)).as_posix(), error)])
        wait()
    return read_sweep(folder)
