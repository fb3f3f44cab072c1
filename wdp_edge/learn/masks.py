"""Scores and thresholds: straight-through top-k masks on heads and hidden units (after WDPruning, AAAI 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.models.structure import Structure, channels_kept

START_KEEP = 0.97
BOUNDARY = 0.08


@dataclass(frozen=True)
class Alignment:
    """Kept widths are multiples of these, and at least one multiple."""

    heads: int = 1
    hidden: int = 1


def kept_count(keep: float, units: int, multiple: int) -> int:
    """⌈keep · units⌉ rounded up to the alignment, within [multiple, units]."""
    wanted = math.ceil(keep * units - 1e-9)
    return min(units, max(multiple, math.ceil(wanted / multiple) * multiple))


def logit(keep: float) -> float:
    """The threshold that keeps this share."""
    return math.log(keep / (1 - keep))


def _threshold(units: float, all_units: int) -> float:
    """The threshold that keeps so many, within what sigmoids still move."""
    return logit(min(START_KEEP, max(1 - START_KEEP, units / max(1, all_units))))


class TopK(torch.autograd.Function):
    """mask = 1 for the top `kept` scores, else 0, with straight-through gradients.

    d loss / d score = d loss / d mask. d loss / d keep = units x the mean of d loss / d mask over the units next to
    the threshold: what admitting one more of them changes.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, keep: Tensor, kept: int) -> Tensor:
        """scores: [n] float32; keep: [] float32 keep ratio -> mask: [n] float32."""
        order = torch.argsort(scores, descending=True, stable=True)
        mask = torch.zeros_like(scores)
        mask[order[:kept]] = 1.0
        reach = max(1, round(BOUNDARY * len(scores)))
        ctx.save_for_backward(order[max(0, kept - reach) : kept + reach])
        return mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        (boundary,) = ctx.saved_tensors
        return gradient, gradient[boundary].mean() * len(gradient), None


class Masks(nn.Module):
    """Learnable scores and thresholds of every block.

    heads_scores, hidden_scores: per block [heads] and [hidden] float32.
    heads_thresholds, hidden_thresholds: [L] float32; keep ratio = sigmoid(threshold).
    narrow: fewer channels that heads may have, of models in principal axes: these go from the last one on, so
    `channels_thresholds`, [L], are all there is to learn. None where it is empty.
    """

    channels_thresholds: nn.Parameter | None

    def __init__(
        self,
        structure: Structure,
        heads_scores: Sequence[Sequence[float]],
        hidden_scores: Sequence[Sequence[float]],
        alignment: Alignment,
        narrow: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.structure, self.alignment, self.narrow = structure, alignment, tuple(narrow)
        self.heads_scores = nn.ParameterList([torch.tensor(s, dtype=torch.float32) for s in heads_scores])
        self.hidden_scores = nn.ParameterList([torch.tensor(s, dtype=torch.float32) for s in hidden_scores])
        start = torch.full((structure.depth,), logit(START_KEEP))
        self.heads_thresholds = nn.Parameter(start.clone())
        self.hidden_thresholds = nn.Parameter(start.clone())
        self.channels_thresholds = nn.Parameter(start.clone()) if narrow else None

    @torch.no_grad()
    def start_at(self, small: Structure) -> None:
        """Thresholds at the widths of a structure of as many blocks: in the middle of what rounds to them, but no
        higher than where they start else, because a share of nearly 1 hardly moves."""
        multiples = self.alignment
        for number, (own, block) in enumerate(zip(small.blocks, self.structure.blocks, strict=True)):
            self.heads_thresholds[number] = _threshold(own.heads - 0.5 * multiples.heads, block.heads)
            self.hidden_thresholds[number] = _threshold(own.hidden - 0.5 * multiples.hidden, block.hidden)
            if self.channels_thresholds is not None:
                below = max((w for w in self.narrow if w < own.head_dim), default=0)
                self.channels_thresholds[number] = _threshold((below + own.head_dim) / 2, block.head_dim)

    def keep_ratios(self) -> tuple[Tensor, Tensor]:
        """[L] of heads and [L] of hidden units, in (0, 1)."""
        return self.heads_thresholds.sigmoid(), self.hidden_thresholds.sigmoid()

    def widths(self) -> tuple[list[int], list[int]]:
        """Heads and hidden units kept now, rounded to the alignment."""
        heads, hidden = (r.detach().tolist() for r in self.keep_ratios())
        blocks = self.structure.blocks
        return (
            [kept_count(k, b.heads, self.alignment.heads) for k, b in zip(heads, blocks, strict=True)],
            [kept_count(k, b.hidden, self.alignment.hidden) for k, b in zip(hidden, blocks, strict=True)],
        )

    def masks(self) -> tuple[list[Tensor], list[Tensor]]:
        """Per block a mask over heads: [heads], and one over hidden units: [hidden]."""
        keep_heads, keep_hidden = self.keep_ratios()
        heads, hidden = self.widths()
        return (
            [TopK.apply(s, keep_heads[i], heads[i]) for i, s in enumerate(self.heads_scores)],
            [TopK.apply(s, keep_hidden[i], hidden[i]) for i, s in enumerate(self.hidden_scores)],
        )

    def channel_ratios(self) -> Tensor:
        """[L] of heads' channels, in (0, 1); 1 where these are not learned."""
        if self.channels_thresholds is None:
            return torch.ones(self.structure.depth)
        return self.channels_thresholds.sigmoid()

    def channels(self) -> list[int]:
        """Channels of each block's heads now: the narrowest of the widths there are that is no less than learned."""
        ratios, blocks = self.channel_ratios().detach().tolist(), self.structure.blocks
        return [channels_kept(k, b.head_dim, self.narrow) for k, b in zip(ratios, blocks, strict=True)]

    def channel_masks(self) -> list[Tensor] | None:
        """Per block a mask over the channels of all heads: [head_dim]. None where all stay."""
        if self.channels_thresholds is None:
            return None
        ratios, dims = self.channel_ratios(), [b.head_dim for b in self.structure.blocks]
        kept, falling = self.channels(), [torch.arange(dim, 0, -1, dtype=torch.float32) for dim in dims]
        return [TopK.apply(scores, ratios[i], kept[i]) for i, scores in enumerate(falling)]

    def kept(self) -> tuple[list[list[int]], list[list[int]]]:
        """Per block the heads and hidden units the masks keep now, ascending."""
        heads, hidden = self.masks()
        return [m.nonzero()[:, 0].tolist() for m in heads], [m.nonzero()[:, 0].tolist() for m in hidden]
