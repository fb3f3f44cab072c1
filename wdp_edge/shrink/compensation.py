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
from wdp_edge.shrink.streams import DenseStream, Images, Streams, stream_size, written_size

RIDGE = 1e-3
READ_RIDGE = 1e-2
# An exit's head has as many samples as there are images, where it reads one token of each.
EXIT_RIDGES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)


def compensate(
    dense: Any,
    small: Any,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    scratch: Path | None = None,
    title: str = "compensate",
) -> None:
    """Refits `small` (a cut copy of `dense`, changed in place) against `dense` on unlabelled images.

    images: [n, 3, H, W] uint8, read once; prepare: uint8 -> normalised float32. Otherwise as `refit`.
    """
    with DenseStream(dense, images, prepare, scratch) as stream:
        refit(stream, small, scratch, title)


@torch.no_grad()
def refit(stream: DenseStream, small: Any, scratch: Path | None = None, title: str = "compensate") -> None:
    """Refits `small` (changed in place) against the model of the stream, from which it was cut, on its images.

    An exit before the last block gets its head fitted to the dense logits; where the head has no weights, the last
    sub-layer aims at the dense stream after the last block instead. Memory is bounded: second moments of one layer and
    one chunk of images.
    """
    dense: Any = stream.model
    dense.eval(), small.eval()
    repairs = plan_repairs(dense, small)
    with (
        Streams(len(stream), [stream_size(dense), written_size(small)], scratch) as kept,
        progress.task(title, len(repairs) + 1) as advance,
    ):
        stream.rewind()
        cut = _Cut(kept)
        for part in stream.chunks():
            kept.write(_STREAM, part, stream.at(0, part))
        advance(1)
        for repair in repairs:
            if repair.small is not None:
                _reread(repair.small, repair.first, stream, cut)
                _rewrite(repair.small, repair, stream, cut)
            advance(1)
        if len(vit.blocks_of(small)) < len(vit.blocks_of(dense)) and vit.has_classifier(small):
            _fit_exit(dense, small, stream, cut)


@dataclass(frozen=True)
class Repair:
    """A sub-layer of the cut model, and those of the dense one that it stands for: its own and dropped ones after it.

    small is None for what is dropped before the first one that stays. first: place of the first dense one.
    """

    small: Sublayer | None
    dense: list[Sublayer]
    first: int

    @property
    def end(self) -> int:
        """Place after the last dense one."""
        return self.first + len(self.dense)


def plan_repairs(dense: Any, small: Any) -> list[Repair]:
    """What each writer that is left has to bring to the stream: the part of a dropped one that it can predict, too."""
    repairs, place = [Repair(None, [], 0)], 0
    every = vit.sublayers(dense)
    for whole, kept in zip(every, vit.sublayers(small), strict=False):
        if kept is not None:
            repairs.append(Repair(kept, [], place))
        if whole is not None:
            repairs[-1].dense.append(whole)
            place += 1
    if not vit.has_classifier(small):
        repairs[-1].dense.extend(s for s in every[len(vit.sublayers(small)) :] if s is not None)
    return repairs if repairs[0].dense else repairs[1:]


_STREAM, _INPUTS = 0, 1


@dataclass
class _Cut:
    """The cut model's stream. before: a sub-layer that is refitted but has not yet run, with what its writer reads."""

    kept: Streams
    before: Sublayer | None = None

    def stream(self, part: slice) -> Tensor:
        """[c, ..., D], after `before`."""
        y = self.kept.read(_STREAM, part)
        return y if self.before is None else self.before.after(y, self.kept.read(_INPUTS, part))


def _reread(small: Sublayer, place: int, stream: DenseStream, cut: _Cut) -> None:
    """Refits the readers. The ridge pulls to the weights that they have. place: of the dense stream that they read.

    What a reader lacks is linear in what its input lacks: one regression serves all of them, whatever their width.
    """
    width = small.readers[0].in_features
    moments = Moments(width, width)
    for part in stream.chunks():
        y = cut.stream(part)
        cut.kept.write(_STREAM, part, y)
        found = small.norm(small.enter(y))
        moments.add(found, small.norm(small.enter(stream.at(place, part))) - found)
    cut.before = None
    for reader in small.readers:
        if reader.bias is None:
            reader.weight.add_(reader.weight @ moments.solve_linear(READ_RIDGE))
            continue
        missing, offset = moments.solve(READ_RIDGE)
        reader.bias.add_(reader.weight @ offset)
        reader.weight.add_(reader.weight @ missing)


def _rewrite(small: Sublayer, repair: Repair, stream: DenseStream, cut: _Cut) -> None:
    """Refits the writer, which runs when its stream is asked for next."""
    moments = Moments(small.writer.in_features, small.writer.out_features)
    normed = [place for place, s in enumerate(repair.dense, repair.first) if s.post_norm is not None]
    for part in stream.chunks():
        y = cut.kept.read(_STREAM, part)
        written = small.written(y)
        if normed:
            last = stream.steps[normed[-1]]
            wanted = last.inner(last.norm(last.enter(stream.at(normed[-1], part))))
        else:
            wanted = stream.at(repair.end, part) - small.enter(y)
        moments.add(written, wanted)
        cut.kept.write(_INPUTS, part, written)
    _assign(small.writer, moments, small.gamma)
    cut.before = small


def _fit_exit(dense: Any, small: Any, stream: DenseStream, cut: _Cut) -> None:
    """The head of an early exit: least squares from its pooled token, or from every patch, to the dense logits."""
    head, dense_head = vit.classifier(small), vit.classifier(dense)
    moments = Moments(head.in_features, head.out_features)
    for part in stream.chunks():
        x = stream.at(len(stream.steps), part)
        moments.add(vit.pooled(small, cut.stream(part)), dense_head(vit.pooled(dense, x)))
    vit.set_classifier(small, *moments.solve(moments.best_ridge(EXIT_RIDGES)))


def _assign(linear: nn.Linear, moments: Moments, gamma: Tensor | None) -> None:
    """Sets the fitted map, with the LayerScale that follows it divided out."""
    safe = 1.0 if gamma is None else torch.where(gamma.abs() < 1e-6, torch.full_like(gamma, 1e-6), gamma)
    if linear.bias is None:
        linear.weight.copy_((moments.solve_linear(RIDGE).T / safe).T)
        return
    weight, bias = moments.solve(RIDGE)
    linear.weight.copy_((weight.T / safe).T)
    linear.bias.copy_(bias / safe)
