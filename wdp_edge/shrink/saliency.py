"""What removing heads and hidden units costs *after* compensation, in closed form and without labels.

The residual of the best refit after removing a set R is tr(W_R (P_RR)^-1 W_R^T), with P the inverse covariance of the
layer's inputs and W its weights: the optimal brain surgeon applied to whole units (Hassibi & Stork 1993; CORP, arXiv
2602.05243). Errors of different layers are made comparable by the Fisher information of the dense model's
own outputs, as the task sees them, at the place where the layer writes into the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.models import vit
from wdp_edge.models.sublayers import Sublayer
from wdp_edge.protocols.task import get_task
from wdp_edge.shrink.compensation import RIDGE
from wdp_edge.shrink.gram import Moments, damped
from wdp_edge.shrink.streams import Images, Streams, stream_size

GROUP = 8
_SPARSE = 0.75  # share of what is left in the matrices at which they are made smaller


@dataclass(frozen=True)
class Importance:
    """How much one layer's units matter: the order in which they go, and what is lost by then.

    order: all units, first to go first. cost[k]: expected rise of the divergence from the dense model (nats per
    image) when the first k units of `order` are gone and the layer is refitted; cost[0] = 0, rising.
    """

    order: tuple[int, ...]
    cost: tuple[float, ...]

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))) or len(self.cost) != len(self.order) + 1:
            raise InputError(
                "The record is damaged: units are missing or listed twice.", "Restore it or start a new run."
            )

    def keep(self, count: int) -> tuple[int, ...]:
        """The `count` units that stay, ascending."""
        return tuple(sorted(self.order[len(self.order) - count :]))

    def lost(self, count: int) -> float:
        """Cost of keeping only `count` units."""
        return self.cost[len(self.order) - count]


NOTHING = Importance((), (0.0,))
"""The importance of a sub-layer that is gone."""


@dataclass(frozen=True)
class Saliency:
    """Importance of heads and of hidden units, for every block."""

    heads: tuple[Importance, ...]
    hidden: tuple[Importance, ...]


@torch.no_grad()
def saliency(
    model: Any,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    information: Sequence[Tensor],
    scratch: Path | None = None,
) -> Saliency:
    """images: [n, 3, H, W] uint8, unlabelled; prepare: uint8 -> normalised float32; information: from `fisher`."""
    found = []
    with (
        Streams(len(images), [stream_size(model)], scratch) as streams,
        progress.task("saliency", len(information)) as advance,
    ):
        streams.fill(model, images, prepare)
        groups = (1, GROUP) * (len(information) // 2)
        for sublayer, known, group in zip(vit.sublayers(model), information, groups, strict=True):
            found.append(NOTHING if sublayer is None else _importance_of(sublayer, known, group, streams))
            advance(1)
    return Saliency(tuple(found[0::2]), tuple(found[1::2]))


def _importance_of(sublayer: Sublayer, information: Tensor, group: int, streams: Streams) -> Importance:
    """Leaves the dense stream after the sub-layer."""
    moments = Moments(sublayer.writer.in_features, 0)
    for part in streams.chunks():
        x = streams.read(0, part)
        z = sublayer.written(x)
        moments.add(z)
        streams.write(0, part, sublayer.after(x, z))
    weight = _writes(sublayer.writer, sublayer.gamma, information)
    return importance(moments.covariance(), weight, sublayer.unit, group)


def _writes(linear: nn.Linear, gamma: Tensor | None, information: Tensor) -> Tensor:
    """Weights [D, K] scaled so that squared errors of the outputs add up to half the divergence."""
    scale = (information / 2).sqrt()
    if gamma is not None:
        scale = scale * gamma.detach().double()
    return linear.weight.detach().double() * scale[:, None]


def fisher(
    model: Any, images: Tensor, prepare: Callable[[Tensor], Tensor], seed: int, task: str = "classify"
) -> list[Tensor]:
    """Diagonal Fisher information per channel at the output of every sub-layer, summed over tokens; before the norm
    of what is added, where there is one.

    It is that of the task's probe. Returns a list over sub-layers of [D] float64; empty for those that are gone.
    """
    probe = get_task(task).probe
    generator = torch.Generator().manual_seed(seed)
    places = vit.sublayers(model)
    sums = [torch.zeros(s.writer.out_features if s else 0, dtype=torch.float64) for s in places]

    def watch(total: Tensor) -> Callable[[nn.Module, Any, Tensor], None]:
        def on_output(_: nn.Module, __: Any, output: Tensor) -> None:
            def on_gradient(gradient: Tensor) -> None:
                total.add_(gradient.double().square().flatten(0, -2).sum(0))

            output.register_hook(on_gradient)

        return on_output

    hooks = [s.outlet.register_forward_hook(watch(t)) for s, t in zip(places, sums, strict=True) if s is not None]
    parameters = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for p, _ in parameters:
            p.requires_grad_(False)
        for part in images.split(64):
            probe(model(prepare(part).requires_grad_(True)), generator).backward()
    finally:
        for hook in hooks:
            hook.remove()
        for p, wanted in parameters:
            p.requires_grad_(wanted)
    return [total / len(images) for total in sums]


@torch.no_grad()
def importance(covariance: Tensor, weight: Tensor, unit: int, group: int) -> Importance:
    """Greedy optimal-brain-surgeon order of units of `unit` neighbouring inputs each.

    covariance: [K, K] float64 of the layer's inputs; weight: [D, K] float64, outputs scaled to comparable errors.
    `group` units go at a time.
    """
    left = _Left(torch.linalg.inv(damped(covariance, RIDGE)).float(), weight.float().clone(), unit)
    order: list[int] = []
    cost = [0.0]
    while len(left.units):
        single = left.costs()
        step = torch.argsort(single, stable=True)[: min(group, len(left.units))]
        share = single[step] / single[step].sum().clamp_min(1e-30)
        joint, gone = left.remove(step)
        order += gone
        for part in share.tolist():
            cost.append(cost[-1] + max(joint, 0.0) * part)
    return Importance(tuple(order), tuple(cost))


class _Left:
    """What is left of a layer: its units, the inverse covariance of its inputs [K, K] and its weights [D, K].

    Both are updated in place, and freed of what is gone only now and then: copies of them would take most of the time.
    """

    def __init__(self, inverse: Tensor, weight: Tensor, unit: int) -> None:
        self.inverse, self.weight, self.unit = inverse, weight, unit
        self.units = torch.arange(len(inverse) // unit)
        self._places = self.units  # of the units, in the matrices

    def costs(self) -> Tensor:
        """Residual of removing each unit alone: [units]."""
        if self.unit == 1:
            return (self.weight.square().sum(0) / self.inverse.diagonal().clamp_min(1e-12))[self._places]
        inputs = self._inputs(self._places)
        blocks = torch.stack([self.inverse[own][:, own] for own in inputs])
        parts = self.weight[:, inputs.flatten()].unflatten(1, inputs.shape).permute(1, 2, 0)
        return (parts * torch.linalg.solve(blocks, parts)).sum((1, 2))

    def remove(self, which: Tensor) -> tuple[float, list[int]]:
        """The joint residual of these units, given by their places among those left, and their numbers."""
        inputs, gone = self._inputs(self._places[which]).flatten(), self.units[which].tolist()
        rows, columns = self.inverse[inputs], self.weight[:, inputs]
        solved = torch.linalg.solve(rows[:, inputs], torch.cat([rows, columns.T], 1))
        back, weights_back = solved[:, : rows.shape[1]], solved[:, rows.shape[1] :]
        self.weight.addmm_(columns, back, alpha=-1)
        self.inverse.addmm_(rows.T, back, alpha=-1)
        stay = torch.ones(len(self.units), dtype=torch.bool)
        stay[which] = False
        self.units, self._places = self.units[stay], self._places[stay]
        if len(self.units) * self.unit < _SPARSE * len(self.inverse):
            kept = self._inputs(self._places).flatten()
            self.inverse, self.weight = self.inverse[kept][:, kept], self.weight[:, kept]
            self._places = torch.arange(len(self.units))
        return float((columns.T * weights_back).sum()), gone

    def _inputs(self, places: Tensor) -> Tensor:
        """[units, inputs of each] of the matrices."""
        return places[:, None] * self.unit + torch.arange(self.unit)
