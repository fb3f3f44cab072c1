"""Search and recovery of a model under given compute options."""

from __future__ import annotations

from typing import Any

import torch

from wdp_edge.config.recipe import ComputeRecipe, LearnRecipe, RecoverRecipe
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.masks import Alignment, Masks, logit
from wdp_edge.learn.recovery import Recovery, RecoveryPlan
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut

COST = CostModel([(1, 0.1), (4, 0.4)], [(8, 0.05), (128, 0.8)], 0.2)


def masks_of(model: Any, threshold: float) -> Masks:
    """Units are worth more the later they stand. threshold: of all hidden units."""
    structure = vit.structure_of(model)
    heads = [list(range(b.heads)) for b in structure.blocks]
    hidden = [list(range(b.hidden)) for b in structure.blocks]
    masks = Masks(structure, heads, hidden, Alignment(1, 8))
    with torch.no_grad():
        masks.hidden_thresholds.fill_(threshold)
    return masks


def tiny_masks(model: Any) -> Masks:
    """Of the tiny ViT: four heads of different worth, and hidden units worth more the later they stand."""
    scores = [[0.1, 0.9, 0.5, 0.3]] * 3, [[i / 128 for i in range(128)]] * 3
    return Masks(vit.structure_of(model), *scores, Alignment(1, 8))


def narrow_masks(model: Any, keep: float) -> Masks:
    """Of the tiny ViT, whose heads may have fewer channels. keep: share of these."""
    blocks = vit.structure_of(model).blocks
    scores = [list(range(b.heads)) for b in blocks], [list(range(b.hidden)) for b in blocks]
    masks = Masks(vit.structure_of(model), *scores, Alignment(1, 8), narrow=(2, 4, 6))
    with torch.no_grad():
        assert masks.channels_thresholds is not None
        masks.channels_thresholds.fill_(logit(keep))
    return masks


def search_of(model: Any, compute: ComputeRecipe, task: str = "classify") -> Search:
    return Search(
        model, masks_of(model, 0.5), SearchGoal(COST, 4.0, 2.0, 10, task=task, compute=compute), LearnRecipe(exits=1)
    )


def recovery_of(model: Any, compute: ComputeRecipe, options: RecoverRecipe, task: str = "classify") -> Recovery:
    blocks = vit.structure_of(model).blocks
    kept = Kept(tuple(tuple(range(b.heads)) for b in blocks), tuple(tuple(range(8, b.hidden)) for b in blocks))
    return Recovery(model, cut(model, kept), RecoveryPlan(10, task=task, compute=compute), options)


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 4, (8,), generator=generator)
