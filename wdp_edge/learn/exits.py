"""Plug-in exits: a norm and the model's head on the pooled token after a block (after WDPruning)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from wdp_edge.errors import InputError
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


def depths_of(dense: Any, exits: int, wanted: int = 0) -> list[int]:
    """Depths at which the model may end, deepest first. exits: how many besides its own; wanted: this one, if any.

    Where no classifier can be fitted to an exit, it must have the stream of the last block. Raises InputError for a
    wanted one that the model cannot have.
    """
    depth = len(vit.blocks_of(dense))
    possible = [d for d in (*reversed(exits_of(dense, depth)), depth) if d == depth or _ends(dense, d)]
    if wanted and wanted not in possible:
        others = ", ".join(map(str, sorted(possible)))
        raise InputError(
            f"This model cannot end after block {wanted} of {depth}, only after {others}.",
            "Set exit in [prune.select] to one of them, or to 0.",
            {"--exit": "Give one of them with --exit."},
        )
    return [wanted] if wanted else [depth, *(d for d in reversed(exits_of(dense, exits)) if _ends(dense, d))]


def _ends(dense: Any, depth: int) -> bool:
    return vit.has_classifier(dense) or vit.ends_alike(dense, depth)
