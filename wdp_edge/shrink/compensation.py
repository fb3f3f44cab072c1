"""Closed-form compensation: after a cut, every linear layer in the blocks is refitted by ridge regression.

Sub-layer by sub-layer, on the cut model's own activations, so that later ones repair what earlier ones lost. First its
readers (qkv, fc1), which find another stream than they were trained on: target is what they gave for the dense one.
Then its writer (proj, fc2): target is the dense model's residual stream. Where a sub-layer is dropped, the one before
it aims at the stream after it. No labels, no gradients. Where what is added is normalised (Swin V2), the target is what
the dense layer gave to that norm: errors of earlier layers stay. See also CORP (arXiv 2602.05243).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.models import vit
from wdp_edge.models.sublayers import Sublayer
from wdp_edge.shrink.gram import Moments
from wdp_edge.shrink.streams import Images, Streams, stream_shape

RIDGE = 1e-3
READ_RIDGE = 1e-2
EXIT_RIDGE = 1e-3


@torch.no_grad()
def compensate(
    dense: Any,
    small: Any,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    scratch: Path | None = None,
    title: str = "compensate",
) -> None:
    """Refits `small` (a cut copy of `dense`, changed in place) against `dense` on unlabelled images.

    images: [n, 3, H, W] uint8, read once; prepare: uint8 -> normalised float32. An exit before the last block gets its
    head fitted to the dense logits; where the head has no weights, the last sub-layer aims at the dense stream after
    the last block instead. Memory is bounded: second moments of one layer and one chunk of images.
    """
    dense.eval(), small.eval()
    depth = len(vit.blocks_of(small))
    repairs = plan_repairs(dense, small)
    with (
        Streams(len(images), stream_shape(dense), scratch) as streams,
        progress.task(title, len(repairs) + 1) as advance,
    ):
        for part, pixels in zip(streams.chunks(), images.split(streams.chunk), strict=True):
            tokens = vit.embed(dense, prepare(pixels))
            streams.write(part, tokens, tokens)
        advance(1)
        before = None
        for repair in repairs:
            _refit(repair, before, streams)
            before = repair.small
            advance(1)
        if depth < len(vit.blocks_of(dense)) and vit.has_classifier(small):
            _fit_exit(dense, small, before, streams)


@dataclass(frozen=True)
class Repair:
    """A sub-layer of the cut model, and those of the dense one that it stands for: its own and dropped ones after it.

    small is None for what is dropped before the first one that stays.
    """

    small: Sublayer | None
    dense: list[Sublayer]


def plan_repairs(dense: Any, small: Any) -> list[Repair]:
    """What each writer that is left has to bring to the stream: the part of a dropped one that it can predict, too."""
    repairs = [Repair(None, [])]
    every = vit.sublayers(dense)
    for whole, kept in zip(every, vit.sublayers(small), strict=False):
        if kept is not None:
            repairs.append(Repair(kept, []))
        if whole is not None:
            repairs[-1].dense.append(whole)
    if not vit.has_classifier(small):
        repairs[-1].dense.extend(s for s in every[len(vit.sublayers(small)) :] if s is not None)
    return repairs if repairs[0].dense else repairs[1:]


def _refit(repair: Repair, before: Sublayer | None, streams: Streams) -> None:
    """before: the cut model's last sub-layer, refitted but not yet run."""
    small = repair.small
    if small is not None:
        _reread(small, before, streams)
        before = None
    moments = Moments(small.writer.in_features, small.writer.out_features) if small else None

    def gather(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y if before is None else before(y)
        wanted = None
        for sublayer in repair.dense:
            if sublayer.post_norm is not None:
                wanted = sublayer.inner(sublayer.norm(sublayer.enter(x)))
            x = sublayer(x)
        if small is not None and moments is not None:
            moments.add(small.written(y), x - small.enter(y) if wanted is None else wanted)
        return x, y

    streams.update(gather)
    if small is not None and moments is not None:
        _assign(small.writer, moments, small.gamma)


def _reread(small: Sublayer, before: Sublayer | None, streams: Streams) -> None:
    """Refits the readers, and runs `before`. The ridge pulls to the weights that they have."""
    moments = [Moments(reader.in_features, reader.out_features) for reader in small.readers]

    def gather(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y if before is None else before(y)
        wanted, found = small.norm(small.enter(x)), small.norm(small.enter(y))
        for reader, seen in zip(small.readers, moments, strict=True):
            seen.add(found, (wanted - found) @ reader.weight.T)
        return x, y

    streams.update(gather)
    for reader, seen in zip(small.readers, moments, strict=True):
        if reader.bias is None:
            reader.weight.add_(seen.solve_linear(READ_RIDGE))
            continue
        weight, bias = seen.solve(READ_RIDGE)
        reader.weight.add_(weight)
        reader.bias.add_(bias)


def _fit_exit(dense: Any, small: Any, before: Sublayer | None, streams: Streams) -> None:
    """The head of an early exit: least squares from its pooled token, or from every patch, to the dense logits."""
    first, last = len(vit.blocks_of(small)), len(vit.blocks_of(dense))
    head, dense_head = vit.classifier(small), vit.classifier(dense)
    moments = Moments(head.in_features, head.out_features)
    for part in streams.chunks():
        x, y = streams.read(part)
        y = y if before is None else before(y)
        for number in range(first, last):
            x = vit.run_block(dense, number, x)
        moments.add(vit.pooled(small, y), dense_head(vit.pooled(dense, x)))
    vit.set_classifier(small, *moments.solve(EXIT_RIDGE))


def _assign(linear: nn.Linear, moments: Moments, gamma: Tensor | None) -> None:
    """Sets the fitted map, with the LayerScale that follows it divided out."""
    safe = 1.0 if gamma is None else torch.where(gamma.abs() < 1e-6, torch.full_like(gamma, 1e-6), gamma)
    if linear.bias is None:
        linear.weight.copy_((moments.solve_linear(RIDGE).T / safe).T)
        return
    weight, bias = moments.solve(RIDGE)
    linear.weight.copy_((weight.T / safe).T)
    linear.bias.copy_(bias / safe)
