"""What removing heads and hidden units costs *after* compensation, in closed form and without labels.

The residual of the best refit after removing a set R is tr(W_R (P_RR)^-1 W_R^T), with P the inverse covariance of the
layer's inputs and W its weights: the optimal brain surgeon applied to whole units (Hassibi & Stork 1993; CORP, arXiv
2602.05243). Errors of different layers are made comparable by the Fisher information of the dense model's
own outputs, as the task sees them, at the place where the layer writes into the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable
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
from wdp_edge.shrink.streams import Streams, stream_shape

GROUP = 8


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


def saliency(
    model: Any,
    images: Tensor,
    prepare: Callable[[Tensor], Tensor],
    seed: int,
    scratch: Path | None = None,
    task: str = "classify",
) -> Saliency:
    """images: [n, 3, H, W] uint8, unlabelled; prepare: uint8 -> normalised float32; task: name of the model's."""
    information = fisher(model, images[:512], prepare, seed, task)
    found = []
    with (
        torch.no_grad(),
        Streams(len(images), stream_shape(model), scratch) as streams,
        progress.task("saliency", len(information)) as advance,
    ):
        for part in streams.chunks():
            streams.write(part, vit.embed(model, prepare(images[part])), None)
        groups = (1, GROUP) * (len(information) // 2)
        for sublayer, known, group in zip(vit.sublayers(model), information, groups, strict=True):
            found.append(NOTHING if sublayer is None else _importance_of(sublayer, known, group, streams))
            advance(1)
    return Saliency(tuple(found[0::2]), tuple(found[1::2]))


def _importance_of(sublayer: Sublayer, information: Tensor, group: int, streams: Streams) -> Importance:
    """Leaves the dense stream after the sub-layer."""
    moments = Moments(sublayer.writer.in_features, 0)
    for part in streams.chunks():
        x, _ = streams.read(part)
        z = sublayer.written(x)
        moments.add(z)
        streams.write(part, sublayer.enter(x) + sublayer.scale(sublayer.writer(z)), None)
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
    inverse = torch.linalg.inv(damped(covariance, RIDGE)).float()
    weight = weight.float()
    units = list(range(covariance.shape[0] // unit))
    order: list[int] = []
    cost = [0.0]
    while units:
        single = _single_costs(inverse, weight, unit)
        step = torch.argsort(single, stable=True)[: min(group, len(units))]
        inputs = (step[:, None] * unit + torch.arange(unit)).flatten()
        mask = torch.ones(len(inverse), dtype=torch.bool)
        mask[inputs] = False
        solved = torch.linalg.solve(inverse[inputs][:, inputs], torch.cat([inverse[inputs], weight[:, inputs].T], 1))
        back, weights_back = solved[:, : len(inverse)], solved[:, len(inverse) :]
        joint = float((weight[:, inputs].T * weights_back).sum())
        share = single[step] / single[step].sum().clamp_min(1e-30)
        for index, part in zip(step.tolist(), share.tolist(), strict=True):
            order.append(units[index])
            cost.append(cost[-1] + max(joint, 0.0) * part)
        weight = (weight - weight[:, inputs] @ back)[:, mask]
        inverse = (inverse - inverse[:, inputs] @ back)[mask][:, mask]
        gone = set(step.tolist())
        units = [u for i, u in enumerate(units) if i not in gone]
    return Importance(tuple(order), tuple(cost))


def _single_costs(inverse: Tensor, weight: Tensor, unit: int) -> Tensor:
    """Residual of removing each unit alone: [units]."""
    if unit == 1:
        return weight.square().sum(0) / inverse.diagonal().clamp_min(1e-12)
    count = len(inverse) // unit
    blocks = torch.stack([inverse[i * unit : (i + 1) * unit, i * unit : (i + 1) * unit] for i in range(count)])
    parts = weight.reshape(len(weight), count, unit).permute(1, 2, 0)
    return (parts * torch.linalg.solve(blocks, parts)).sum((1, 2))
