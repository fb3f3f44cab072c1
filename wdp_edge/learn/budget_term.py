"""The budget as a differentiable penalty: latency of the rounded structure, augmented Lagrangian (after WDPruning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wdp_edge.learn.masks import Masks

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class CostModel:
    """Latency in ms as a sum over sub-layers. Points are (width, ms), rising in width; fixed: everything else.

    head, scales, last: see `LatencyTable`, where `head` is head_ms; the last block is the one before the exit.
    """

    attention: Points
    mlp: Points
    fixed: float
    scales: Points = ()
    last: tuple[float, float] | None = None
    head: float = 0.0


def interpolate(points: Points, width: Tensor) -> Tensor:
    """Piecewise-linear ms at `width`: [] or [L] float32; differentiable with the slope of the segment."""
    xs = torch.tensor([p[0] for p in points], dtype=torch.float32)
    ys = torch.tensor([p[1] for p in points], dtype=torch.float32)
    if len(points) == 1:
        return ys[0] * width / xs[0]
    right = torch.bucketize(width.detach().float(), xs).clamp(1, len(points) - 1)
    slope = (ys[right] - ys[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + slope * (width - xs[right - 1])


def structure_cost(masks: Masks, cost: CostModel) -> Tensor:
    """ms of the structure as it would be cut now: [] float32.

    The value is that of the rounded widths; the gradient passes straight through the rounding to the thresholds.
    """
    keep_heads, keep_hidden = masks.keep_ratios()
    widths_heads, widths_hidden = masks.widths()
    blocks = masks.structure.blocks
    scales = torch.tensor(cost.scales or ((1.0, 1.0),) * len(blocks), dtype=torch.float32)
    slopes = cost.last or (None, None)
    heads = rounded(keep_heads, [b.heads for b in blocks], widths_heads)
    dims = [b.head_dim for b in blocks]
    whole = torch.tensor(dims, dtype=torch.float32).clamp_min(1)  # 0 of an attention that is gone
    share = rounded(masks.channel_ratios(), dims, masks.channels()) / whole
    hidden = rounded(keep_hidden, [b.hidden for b in blocks], widths_hidden)
    total = torch.tensor(cost.fixed)
    total = total + parts_cost(cost.attention, heads * share, scales[:, 0], slopes[0])
    total = total + parts_cost(cost.mlp, hidden, scales[:, 1], slopes[1])
    narrowed = heads * (1 - share) * scales[:, 0]
    return total + cost.head * (narrowed if cost.last is None else narrowed[:-1]).sum()


def rounded(keep: Tensor, units: Sequence[int], widths: Sequence[int]) -> Tensor:
    """The widths, [L] float32, with the gradient of keep, [L], times units."""
    smooth = keep * torch.tensor(units, dtype=torch.float32)
    return smooth + (torch.tensor(widths, dtype=torch.float32) - smooth).detach()


def parts_cost(points: Points, widths: Tensor, scales: Tensor, last: float | None) -> Tensor:
    """ms of the attentions, or of the MLPs, of all blocks: [] float32. widths, scales: [L]. last: see `CostModel`."""
    whole = widths if last is None else widths[:-1]
    total = interpolate(points, whole * scales[: len(whole)]).sum()
    return total if last is None else total + last * widths[-1]


class AugmentedLagrangian:
    """λ1 · excess + λ2 · excess², with λ1 rising while the cost is over the budget and falling when it is under.

    excess = cost / budget - 1. λ1 stays in [0, limit]: the published schedule adds 10 per step without bound.
    """

    def __init__(self, rate: float = 0.5, quadratic: float = 10.0, limit: float = 50.0) -> None:
        self.rate, self.quadratic, self.limit = rate, quadratic, limit
        self.multiplier = 0.0

    def __call__(self, cost: Tensor, budget: float) -> Tensor:
        """cost: [] ms -> penalty: []."""
        excess = cost / budget - 1
        over = excess.clamp_min(0)
        return self.multiplier * over + self.quadratic * over.square()

    def ascend(self, cost: float, budget: float) -> None:
        """One dual step."""
        self.multiplier = min(self.limit, max(0.0, self.multiplier + self.rate * (cost / budget - 1)))
