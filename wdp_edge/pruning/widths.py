"""Stage `learn`: masks that begin at what the closed form chooses, and what learning makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from wdp_edge import progress
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.refits import Refits
from wdp_edge.learn.search import SearchGoal, search
from wdp_edge.models.surgery import Kept
from wdp_edge.models.vit import structure_of
from wdp_edge.pruning.bench import Bench
from wdp_edge.pruning.choose import Steps, head_widths
from wdp_edge.pruning.selection import allowed
from wdp_edge.runs.stages import Learned
from wdp_edge.select.candidates import solve
from wdp_edge.select.rankings import Ranking, tilted_ranking
from wdp_edge.shrink.enough import Need
from wdp_edge.shrink.saliency import Importance

# For the refits while masks are learned; what ships is fitted to more.
REFITTED = Need(512, 6.0, 128)


@dataclass(frozen=True)
class Beginning:
    """Where a search begins, and how long it is.

    ranking: by the closed form, with narrow heads where the model may have them. prune: the recipe's settings.
    """

    ranking: Ranking
    prune: PruneRecipe
    steps: Steps


def learned_scores(bench: Bench, model: nn.Module, beginning: Beginning, run: Path) -> Learned:
    """Scores and thresholds, learned under the budget. model: the dense one, in principal axes where these are cut."""
    prune, steps, structure = beginning.prune, beginning.steps, structure_of(model)
    torch.manual_seed(prune.seed)
    budget_ms = bench.aim(prune.select.margin)
    kept = closed_form(bench, model, beginning, budget_ms)
    masks = started_masks(bench, model, beginning, kept)
    near = bench.table.around(budget_ms)
    cost = CostModel(near.attention, near.mlp, near.fixed_ms, near.scales, near.last, near.head_ms)
    task = bench.data.task.facts.name
    # Without a structure to begin at, the budget falls from the dense model's time.
    start_ms = near.part_sum(structure) if kept is None else budget_ms
    goal = SearchGoal(cost, start_ms, budget_ms, steps.learn, steps.learn_batch, task, prune.compute)
    stream = bench.data.stream(steps.learn_batch, first=0)
    images = bench.data.calibration[: REFITTED.images(model)]
    refits = Refits(model, images, bench.data.prepare)
    learned = search(model, masks, goal, prune.learn, stream, run / "stages" / "learn.checkpoint", refits)
    if not learned.reached:
        progress.say(
            f"warning: learning ended at {near.amount(learned.cost_ms)} by the table where {near.amount(budget_ms)} "
            "were wanted: its "
            f"widths are not used. Give it more than {steps.learn} steps: images in [prune], or share in [prune.learn]."
        )
    return learned


def closed_form(bench: Bench, model: nn.Module, beginning: Beginning, limit_ms: float) -> Kept | None:
    """The structure of all blocks that the ranking chooses, half tilted; None where none of them fits."""
    tilt, structure = beginning.prune.select.tilt / 2, structure_of(model)
    ranking = tilted_ranking(beginning.ranking, tilt) if tilt else beginning.ranking
    widths = allowed(model, bench.tools.target.mlp_width_multiple, False)
    return solve(ranking, structure, structure.depth, bench.table, limit_ms, widths)


def started_masks(bench: Bench, model: nn.Module, beginning: Beginning, kept: Kept | None) -> Masks:
    """Scores in the order of removal, and thresholds at the kept widths, or where nearly all is kept."""
    ranking, structure = beginning.ranking, structure_of(model)
    small = structure if kept is None else kept.structure(structure)
    orders = [order_of(ranking, number, block.head_dim) for number, block in enumerate(small.blocks)]
    masks = Masks(
        structure,
        [positions(order) for order in orders],
        [positions(order) for order in ranking.hidden],
        Alignment(1, bench.tools.target.mlp_width_multiple),
        head_widths(model, beginning.prune.select) if ranking.narrow else (),
    )
    if kept is not None:
        masks.start_at(small)
    return masks


def order_of(ranking: Ranking, number: int, head_dim: int) -> Importance:
    """In which the heads of a block go, where they have so many channels."""
    narrow = ranking.narrow[number] if ranking.narrow else ()
    return next((c.heads for c in narrow if c.head_dim == head_dim), ranking.heads[number])


def positions(importance: Importance) -> list[float]:
    """Scores to start from: each unit's place in the removal order, in (0, 1)."""
    count = len(importance.order)
    scores = [0.0] * count
    for place, unit in enumerate(importance.order):
        scores[unit] = (place + 0.5) / count
    return scores
