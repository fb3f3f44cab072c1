"""Plug-in exits: a norm and the model's head on the pooled token after a block (after WDPruning)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from wdp_edge.models import vit


class Exits(nn.Module):
    """Heads after some blocks, started from the model's own norm and head. Keys are numbers of kept blocks."""

    def __init__(self, model: Any, depths: Sequence[int]) -> None:
        super().__init__()
        self.depths = tuple(depths)
        self.norms = nn.ModuleDict({str(d): copy.deepcopy(model.norm) for d in depths})
        self.heads = nn.ModuleDict({str(d): vit.head_of(model) for d in depths})

    def forward(self, model: Any, depth: int, x: Tensor) -> Tensor:
        """x: [B, ..., D] stream after `depth` blocks -> outputs: [B, K], or maps."""
        return self.heads[str(depth)](vit.pooled(model, x, depth, self.norms[str(depth)]))


def forward_with_exits(model: Any, exits: Exits, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """images: [B, 3, H, W] -> outputs of the whole model, and those of every exit: [B, K] each, or maps."""
    x = vit.embed(model, images)
    early = []
    for depth in range(1, len(vit.blocks_of(model)) + 1):
        x = vit.run_block(model, depth - 1, x)
        if depth in exits.depths:
            early.append(exits(model, depth, x))
    return vit.classify(model, x), early


def exits_of(model: Any, count: int) -> list[int]:
    """`exit_depths` of a model; none where its head reads several blocks."""
    return exit_depths(len(vit.blocks_of(model)), count) if vit.may_end_early(model) else []


def exit_depths(depth: int, count: int) -> list[int]:
    """The last `count` places before the end where an exit may stand; at least half of the blocks stay."""
    return list(range(max((depth + 1) // 2, depth - count, 1), depth))
