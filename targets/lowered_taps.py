"""What a head reads of blocks before the last one, rewritten for lowering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from wdp_edge.models.map_head import MapHead, taps_of
from wdp_edge.targets.lowered_parts import plain_linear


class LoweredTaps(nn.Module):
    """Final norm, and the head's own part where it is linear, for each block that is tapped.

    blocks: their numbers, from 1. A linear head of several blocks is the sum of one for each, so that every norm is
    folded into its own part. A convolutional head reads the normed tokens side by side.
    """

    def __init__(self, vit: Any, norm: nn.Module, lowered: Callable[[nn.Module, list[Any]], nn.Module]) -> None:
        """norm: the model's final one. lowered: makes its lowered form from it and the layers that read it."""
        super().__init__()
        self.blocks = [tap.block for tap in taps_of(vit.head)]
        parts = parts_of(vit.head)[:-1]
        self.norms = nn.ModuleList(lowered(norm, [part]) for part in parts)
        self.heads = nn.ModuleList(parts)

    def forward(self, streams: dict[int, Tensor]) -> list[Tensor]:
        """streams: [1, patches, D] by number of block -> logits [1, patches, classes] to add up, or normed tokens."""
        pairs = zip(self.heads, self.norms, strict=True)
        return [head(norm(streams[block])) for block, (head, norm) in zip(self.blocks, pairs, strict=True)]


def parts_of(head: Any) -> list[nn.Module]:
    """A head's plain layers for each block that it reads, the last one's at the end.

    A convolutional head cannot be parted: all of it belongs to the last block.
    """
    taps = taps_of(head)
    if not isinstance(head, MapHead):
        return [*(nn.Identity() for _ in taps), nn.Sequential(*head)]
    *earlier, last = head.weight.chunk(len(taps) + 1, 1)
    return [*(plain_linear(weight, None) for weight in earlier), plain_linear(last, head.bias)]
