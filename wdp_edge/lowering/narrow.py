"""A residual stream that 16-bit floats can hold the squares of.

What is left of a LayerNorm squares its input, and 65,504, the largest 16-bit float, is the square of 256. A stream that
nothing but norms reads may be multiplied by any number: x / rms(x) does not see it. A power of two, folded into all
that writes the stream, is exact and costs nothing.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.lowering.parts import LoweredNorm
from wdp_edge.lowering.vit import LoweredViT

# Half of what can be squared: other images than those that were looked at have room above them.
LARGEST = 128.0
IMAGES = 16
"""The largest values of a stream are those of few channels, and much the same for all images."""
LEAST = 2.0**-24
"""The smallest 16-bit float above zero: an eps below it would be none, and a token of zeros would become NaN."""


@torch.no_grad()
def narrow_stream(lowered: nn.Module, images: Tensor) -> float:
    """Scales the stream so that the largest value that a norm reads is at most LARGEST; gives the factor.

    lowered: what `lower` made of a ViT, changed in place. images: [n, 3, H, W] as the model takes them. The factor is 1
    where nothing has to be done, and where something else than norms reads the stream.
    """
    if not isinstance(lowered, LoweredViT) or not readers(lowered):
        return 1.0
    largest = largest_read(lowered, images)
    factor = 2.0 ** -max(0, math.ceil(math.log2(max(largest, 1.0) / LARGEST)))
    if factor < 1:
        scale_stream(lowered, factor)
    return factor


def largest_read(lowered: LoweredViT, images: Tensor) -> float:
    """The largest absolute value that any norm of the stream reads."""
    seen = [0.0]
    hooks = [
        norm.register_forward_pre_hook(lambda module, args: seen.append(float(args[0].abs().max())))
        for norm in readers(lowered)
    ]
    try:
        for image in images.split(1):
            lowered(image)
    finally:
        for hook in hooks:
            hook.remove()
    return max(seen)


def scale_stream(lowered: LoweredViT, factor: float) -> None:
    """All that is added up becomes `factor` times as large, in place. factor: a power of two, or it is not exact."""
    for values in written(lowered):
        values.mul_(factor)
    for norm in readers(lowered):
        norm.mean_square.bias.mul_(factor**2).clamp_(min=LEAST)


def readers(lowered: nn.Module) -> list[LoweredNorm]:
    """Norms of a ViT that read the stream, if nothing else does; else none."""
    if not (isinstance(lowered, LoweredViT) and lowered.centred):
        return []
    blocks: list[Any] = list(lowered.blocks)
    found = [getattr(block, name, None) for block in blocks for name in ("norm1", "norm2")]
    found += [lowered.norm, lowered.fc_norm, *(lowered.taps.norms if lowered.taps is not None else ())]
    return [norm for norm in found if isinstance(norm, LoweredNorm)]


def written(lowered: LoweredViT) -> list[Tensor]:
    """Weights and constants that the stream is the sum of: each of them is a factor of one summand."""
    embedding: Any = lowered.embedding
    found = [embedding.patch_embed.proj.weight, embedding.patch_embed.proj.bias]
    found += [getattr(embedding, name, None) for name in lowered.family.added]
    for block in lowered.blocks:
        part: Any = block
        if part.has_attention:
            found += written_by(part.attn.proj, part.post_norm1)
        if part.has_mlp:
            found += written_by(part.fc2, part.post_norm2)
    return [values for values in found if values is not None]


def written_by(layer: Any, norm: Any) -> list[Tensor | None]:
    """Of a sub-layer's last layer, or of the norm after it, which undoes any factor before it."""
    return [norm.scale, norm.shift] if isinstance(norm, LoweredNorm) else [layer.weight, layer.bias]
