"""Closed-form writers for what the masks keep, put into the model while its masks are learned.

What a unit is worth is what the refit that follows a cut cannot replace. A search whose writers are those of the dense
model sees what its removal breaks instead, most of which the refit mends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.learn.masks import Masks
from wdp_edge.models import vit
from wdp_edge.shrink.compensation import RIDGE
from wdp_edge.shrink.gram import damped

_BATCH = 64


class _Inputs:
    """First and second moments of what a writer reads.

    Those of all layers are held at once, so in float32: the ridge is far above what that rounds away.
    """

    def __init__(self, count: int) -> None:
        self.samples = 0
        self.sum = torch.zeros(count, dtype=torch.float64)
        self.squares = torch.zeros(count, count)

    def add(self, z: Tensor) -> None:
        """z: [..., K]."""
        z = z.reshape(-1, z.shape[-1]).float()
        self.samples += len(z)
        self.sum += z.sum(0)
        self.squares.addmm_(z.T, z)

    def moments(self, inputs: Tensor, centred: bool) -> Tensor:
        """Rows of these inputs: [k, K] float64."""
        found = self.squares[inputs].double() / self.samples
        return found - torch.outer(self.mean[inputs], self.mean) if centred else found

    @property
    def mean(self) -> Tensor:
        return self.sum / self.samples


@dataclass(frozen=True)
class _Writer:
    """A writer of the dense model, and what it reads there."""

    weight: Tensor
    bias: Tensor | None
    seen: _Inputs

    def kept(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight [D, K] and bias [D], float32, that give what the dense ones gave, from some inputs as nearly as can
        be. inputs: their places. Columns of the others stay: a unit that comes back brings what it brought."""
        dense, some = self.weight.double(), self.seen.moments(inputs, self.bias is not None)
        fitted = torch.linalg.solve(damped(some[:, inputs], RIDGE), some @ dense.T).T
        weight = self.weight.clone()
        weight[:, inputs] = fitted.float()
        if self.bias is None:
            return weight, None
        mean = self.seen.mean
        return weight, (self.bias + dense @ mean - fitted @ mean[inputs]).float()


class Refits:
    """What it takes to refit the writers of a dense model for any masks: one pass over some images.

    images: [n, 3, H, W] uint8, unlabelled; prepare: uint8 -> normalised float32.
    """

    def __init__(self, dense: Any, images: Tensor, prepare: Callable[[Tensor], Tensor]) -> None:
        places = vit.sublayers(dense)
        self.writers = [None if s is None else _writer(s.writer) for s in places]

        def note(seen: _Inputs) -> Callable[[nn.Module, tuple[Tensor]], None]:
            return lambda _, args: seen.add(args[0])

        both = zip(places, self.writers, strict=True)
        hooks = [s.writer.register_forward_pre_hook(note(w.seen)) for s, w in both if s and w]
        try:
            with torch.no_grad(), progress.task("refits while learning", len(images)) as advance:
                for part in images.split(_BATCH):
                    dense(prepare(part))
                    advance(len(part))
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def __call__(self, student: Any, masks: Masks) -> None:
        """Gives the student, a copy of the dense model, the writers that fit what the masks keep now."""
        channels, units = masks.channels(), masks.kept()
        for number, (sublayer, writer) in enumerate(zip(vit.sublayers(student), self.writers, strict=True)):
            if sublayer is None or writer is None:
                continue
            own = torch.tensor(units[number % 2][number // 2])
            width = sublayer.unit if number % 2 else channels[number // 2]
            inputs = (own[:, None] * sublayer.unit + torch.arange(width)).flatten()
            weight, bias = writer.kept(inputs)
            sublayer.writer.weight.copy_(weight)
            if bias is not None:
                sublayer.writer.bias.copy_(bias)


def _writer(linear: nn.Linear) -> _Writer:
    bias = None if linear.bias is None else linear.bias.detach().clone()
    return _Writer(linear.weight.detach().clone(), bias, _Inputs(linear.in_features))
