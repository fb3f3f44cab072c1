"""Search and recovery of a model under given compute options."""

from __future__ import annotations

from typing import Any

import torch
from test_masks import COST

from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.recovery import Recovery, RecoveryPlan
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.recipe import ComputeRecipe, LearnRecipe, RecoverRecipe


def masks_of(model: Any, threshold: float) -> Masks:
    """Units are worth more the later they stand. threshold: of all hidden units."""
    structure = vit.structure_of(model)
    scores = [
        [list(range(n)) for n in widths]
        for widths in zip(*((b.heads, b.hidden) for b in structure.blocks), strict=True)
    ]
    masks = Masks(structure, *scores, Alignment(1, 8))
    with torch.no_grad():
        masks.hidden_thresholds.fill_(threshold)
    return masks


def search_of(model: Any, compute: ComputeRecipe, task: str = "classify") -> Search:
    return Search(model, masks_of(model, 0.5), SearchGoal(COST, 4.0, 2.0, 10, task, compute), LearnRecipe(exits=1))


def recovery_of(model: Any, compute: ComputeRecipe, options: RecoverRecipe, task: str = "classify") -> Recovery:
    blocks = vit.structure_of(model).blocks
    kept = Kept(tuple(tuple(range(b.heads)) for b in blocks), tuple(tuple(range(8, b.hidden)) for b in blocks))
    return Recovery(model, cut(model, kept), RecoveryPlan(10, task=task, compute=compute), options)
