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

from wdp_edge.learn.masks import Masks
from wdp_edge.models import vit
from wdp_edge.models.sublayers import Sublayer
from wdp_edge.shrink.compensation import RIDGE
from wdp_edge.shrink.gram import Moments, damped

_BATCH = 64


@dataclass(frozen=True)
class _Writer:
    """A writer of the dense model. moments: of its inputs, centred where it has a bias, [K, K] float64; mean: [K]."""

    weight: Tensor
    bias: Tensor | None
    moments: Tensor
    mean: Tensor

    def kept(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weight [D, K] and bias [D], float32, that give what the dense ones gave, from some inputs as nearly as can
        be. inputs: their places. Columns of the others stay: a unit that comes back brings what it brought."""
        dense, some = self.weight.double(), self.moments[inputs]
        fitted = torch.linalg.solve(damped(some[:, inputs], RIDGE), some @ dense.T).T
        weight = self.weight.clone()
        weight[:, inputs] = fitted.float()
        if self.bias is None:
            return weight, None
        return weight, (self.bias + dense @ self.mean - fitted @ self.mean[inputs]).float()


class Refits:
    """What it takes to refit the writers of a dense model for any masks: one pass over some images.

    images: [n, 3, H, W] uint8, unlabelled; prepare: uint8 -> normalised float32.
    """

    def __init__(self, dense: Any, images: Tensor, prepare: Callable[[Tensor], Tensor]) -> None:
        places = vit.sublayers(dense)
        seen = [Moments(s.writer.in_features, 0) if s else None for s in places]

        def note(moments: Moments) -> Callable[[nn.Module, tuple[Tensor]], None]:
            return lambda _, args: moments.add(args[0])

        hooks = [
            s.writer.register_forward_pre_hook(note(m))
            for s, m in zip(places, seen, strict=True)
            if s and m is not None
        ]
        try:
            with torch.no_grad():
                for part in images.split(_BATCH):
                    dense(prepare(part))
        finally:
            for hook in hooks:
                hook.remove()
        self.writers = [_writer(s, m) if s and m else None for s, m in zip(places, seen, strict=True)]

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


def _writer(sublayer: Sublayer, moments: Moments) -> _Writer:
    linear, bias = sublayer.writer, sublayer.writer.bias
    centred = moments.zz / moments.count if bias is None else moments.covariance()
    kept = None if bias is None else bias.detach().clone()
    return _Writer(linear.weight.detach().clone(), kept, centred, moments.z / moments.count)
