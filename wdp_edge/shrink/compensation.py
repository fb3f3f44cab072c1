"""Closed-form compensation: after a cut, `proj` and `fc2` of every block are refitted by ridge regression.

Block by block. Target: the dense model's residual stream; input: the cut model's own activations, so that later
blocks repair what earlier ones lost. No labels, no gradients. See also CORP (arXiv 2602.05243).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.models import vit
from wdp_edge.shrink.gram import Moments
from wdp_edge.shrink.streams import Streams

RIDGE = 1e-3
EXIT_RIDGE = 1e-3


@torch.no_grad()
def compensate(
    dense: Any,
    small: Any,
    images: Tensor,
    prepare: Callable[[Tensor], Tensor],
    scratch: Path | None = None,
    title: str = "compensate",
) -> None:
    """Refits `small` (a cut copy of `dense`, changed in place) against `dense` on unlabelled images.

    images: [n, 3, H, W] uint8; prepare: uint8 -> normalised float32. An exit before the last block gets its head
    fitted to the dense logits. Memory is bounded: second moments of one layer and one chunk of images.
    """
    dense.eval(), small.eval()
    depth = len(small.blocks)
    with (
        Streams(len(images), vit.tokens_of(dense), dense.embed_dim, scratch) as streams,
        progress.task(title, 2 * depth + 1) as advance,
    ):
        for part in streams.chunks():
            tokens = vit.embed(dense, prepare(images[part]))
            streams.write(part, tokens, tokens)
        advance(1)
        for block, cut_block in zip(dense.blocks[:depth], small.blocks, strict=True):
            _refit_attention(block, cut_block, streams)
            advance(1)
            _refit_mlp(block, cut_block, streams)
            advance(1)
        if depth < len(dense.blocks):
            _fit_exit(dense, small, streams)


def _refit_attention(block: Any, small: Any, streams: Streams) -> None:
    moments = Moments(small.attn.attn_dim, small.attn.proj.out_features)
    for part in streams.chunks():
        x, y = streams.read(part)
        x = x + block.ls1(block.attn(block.norm1(x)))
        moments.add(input_of(small.attn.proj, small.attn, small.norm1(y)), x - y)
        streams.write(part, x, None)
    _assign(small.attn.proj, moments, vit.layer_scale(small, "ls1"))


def _refit_mlp(block: Any, small: Any, streams: Streams) -> None:
    moments = Moments(small.mlp.fc1.out_features, small.mlp.fc2.out_features)

    def gather(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        y = y + small.ls1(small.attn(small.norm1(y)))
        x = x + block.ls2(block.mlp(block.norm2(x)))
        moments.add(input_of(small.mlp.fc2, small.mlp, small.norm2(y)), x - y)
        return x, y

    streams.update(gather)
    _assign(small.mlp.fc2, moments, vit.layer_scale(small, "ls2"))
    streams.update(lambda x, y: (x, y + small.ls2(small.mlp(small.norm2(y)))))


def _fit_exit(dense: Any, small: Any, streams: Streams) -> None:
    """The head of an early exit: least squares from its pooled token to the dense logits."""
    moments = Moments(small.head.in_features, small.head.out_features)
    rest = dense.blocks[len(small.blocks) :]
    for part in streams.chunks():
        x, y = streams.read(part)
        moments.add(vit.pooled(small, y), vit.classify(dense, rest(x)))
    _assign(small.head, moments, None, EXIT_RIDGE)


def input_of(layer: nn.Module, parent: nn.Module, x: Tensor) -> Tensor:
    """What `layer` is given when `parent` runs on x."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        parent(x)
    finally:
        hook.remove()
    return seen[0]


def _assign(linear: nn.Linear, moments: Moments, gamma: Tensor | None, ridge: float = RIDGE) -> None:
    """Sets the fitted map, with the LayerScale that follows it divided out."""
    weight, bias = moments.solve(ridge)
    if gamma is not None:
        safe = torch.where(gamma.abs() < 1e-6, torch.full_like(gamma, 1e-6), gamma)
        weight, bias = weight / safe[:, None], bias / safe
    linear.weight.copy_(weight)
    if linear.bias is None:
        # Without a bias the affine part has nowhere to go; the linear part is still the best direction.
        return
    linear.bias.copy_(bias)
