"""Attention heads in principal axes: an exact rewrite after which a head's first channels carry the most.

q·k and v·proj do not change when q and k, or v and proj, are multiplied by a matrix and its inverse. The matrices
chosen here are those of the best approximation of either product in fewer channels: in a head's first r channels q·k
has the least squared error over the images' own q and k, and what is written into the stream the least error as the
model's predictions see it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.models import vit
from wdp_edge.models.sublayers import Sublayer
from wdp_edge.shrink.compensation import RIDGE
from wdp_edge.shrink.gram import HeadMoments, Moments
from wdp_edge.shrink.saliency import Importance, importance
from wdp_edge.shrink.streams import Images, Streams, stream_size

_SMALLEST = 1e-8  # relative; axes in which nothing ever happens stay invertible


@dataclass(frozen=True)
class NarrowHeads:
    """A block whose heads keep only their first `head_dim` channels.

    cost: expected rise of the divergence from the dense model, as in `Importance`; heads: what else goes with heads.
    """

    head_dim: int
    cost: float
    heads: Importance

    def lost(self, count: int) -> float:
        """Cost of keeping `count` heads of this width."""
        return self.cost + self.heads.lost(count)


def narrow_widths(model: Any, multiple: int) -> tuple[int, ...]:
    """Rising channel counts that heads may get; none where heads are tied to their axes."""
    if vit.fixed_heads(model) is not None:
        return ()
    widest = max(b.head_dim for b in vit.structure_of(model).blocks)
    return tuple(range(2 * multiple, widest, multiple))


@torch.no_grad()
def principal_axes(
    model: Any,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    information: Sequence[Tensor],
    widths: tuple[int, ...],
    scratch: Path | None = None,
) -> tuple[Any, tuple[tuple[NarrowHeads, ...], ...]]:
    """A copy that computes the same, and per block what heads of these `widths` cost.

    images: [n, 3, H, W] uint8, unlabelled; prepare: uint8 -> normalised float32; information: from `fisher`.
    """
    turned, narrow, size = copy.deepcopy(model), [], stream_size(model)
    with (
        Streams(len(images), [size, size], scratch) as streams,
        progress.task("principal axes", len(information) // 2) as advance,
    ):
        streams.fill(model, images, prepare)
        parts = vit.sublayers(turned)
        for number in range(len(parts) // 2):
            attention, mlp = parts[2 * number : 2 * number + 2]
            costs: tuple[NarrowHeads, ...] = ()
            if attention is not None:
                errors = (information[2 * number] / 2).sqrt()
                turn(attention, errors if attention.gamma is None else errors * attention.gamma, streams)
                costs = _costs(attention, errors, widths, streams)
            for part in streams.chunks():
                x = streams.read(_BEFORE if attention is None else _AFTER, part)
                streams.write(_BEFORE, part, x if mlp is None else mlp(x))
            narrow.append(costs)
            advance(1)
    return turned, tuple(narrow)


_BEFORE, _AFTER = 0, 1  # rows: the stream before an attention, and after it


def turn(sublayer: Sublayer, errors: Tensor, streams: Streams) -> None:
    """Rewrites an attention, in place, and writes the stream after it. errors: [D], how much an error of each output
    channel matters."""
    attn: Any = sublayer.module
    heads, width = attn.num_heads, attn.head_dim
    seen_q, seen_k, written = (HeadMoments(heads, width) for _ in range(3))
    for part in streams.chunks():
        x = streams.read(_BEFORE, part)
        q, k, v = split_heads(sublayer, sublayer.norm(x))
        z = nn.functional.scaled_dot_product_attention(q, k, v, scale=attn.scale).transpose(1, 2)
        seen_q.add(q.transpose(1, 2))
        seen_k.add(k.transpose(1, 2))
        written.add(z)
        streams.write(_AFTER, part, sublayer.after(x, z.flatten(2)))
    # What is the same for all keys is lost in the softmax, and what is constant in the output is the bias's: both are
    # centred, q is not.
    squares, centred, outputs = seen_q.squares(), seen_k.covariances(), written.covariances()
    weight = sublayer.readers[0].weight.double().reshape(3, heads, width, -1)
    bias = None if sublayer.readers[0].bias is None else sublayer.readers[0].bias.double().reshape(3, heads, width)
    writer = sublayer.writer.weight.double().reshape(-1, heads, width)
    for head in range(heads):
        turn_q, turn_k = balanced(squares[head], centred[head])
        turn_v, back = outward(outputs[head], writer[:, head] * errors[:, None])
        for which, matrix in enumerate((turn_q, turn_k, turn_v)):
            weight[which, head] = matrix @ weight[which, head]
            if bias is not None:
                bias[which, head] = matrix @ bias[which, head]
        writer[:, head] = writer[:, head] @ back
    sublayer.readers[0].weight.copy_(weight.flatten(0, 2))
    if bias is not None:
        sublayer.readers[0].bias.copy_(bias.flatten())
    sublayer.writer.weight.copy_(writer.flatten(1))


def split_heads(sublayer: Sublayer, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """normed: [B, N, D] -> q, k and v: [B, heads, N, d] each."""
    attn: Any = sublayer.module
    q, k, v = sublayer.readers[0](normed).unflatten(-1, (3, attn.num_heads, attn.head_dim)).permute(2, 0, 3, 1, 4)
    return q, k, v


def balanced(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices for q and k, from their second moments, all [d, d] float64.

    They leave q·k as it is and give both the same diagonal second moments, falling: the singular values of the product.
    """
    (root_q, inverse_q), (root_k, inverse_k) = square_root(q), square_root(k)
    left, size, right = torch.linalg.svd(root_q @ root_k)
    size = size.clamp_min(_SMALLEST * float(size[0])).sqrt()
    return size[:, None] * (left.T @ inverse_q), size[:, None] * (right @ inverse_k)


def outward(outputs: Tensor, writer: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix for a head's outputs and its inverse, [d, d] float64: the first axes write the most.

    outputs: [d, d], their covariance; writer: [D, d], scaled to comparable errors.
    """
    root, inverse = square_root(outputs)
    _, size, right = torch.linalg.svd(writer @ root, full_matrices=False)
    size = size.clamp_min(_SMALLEST * float(size[0])).sqrt()
    return size[:, None] * (right @ inverse), root @ right.T / size


def square_root(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric root of a second moment and its inverse: [d, d] float64 each."""
    values, vectors = torch.linalg.eigh(moments)
    root = values.clamp_min(_SMALLEST * float(values[-1])).clamp_min(1e-30).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def _costs(sublayer: Sublayer, errors: Tensor, widths: tuple[int, ...], streams: Streams) -> tuple[NarrowHeads, ...]:
    """What narrow heads lose although the writer is refitted, and what removing some of them loses on top."""
    attn: Any = sublayer.module
    moments = [Moments(attn.num_heads * width, len(errors)) for width in widths]
    squares = torch.zeros(len(errors), dtype=torch.float64)
    for part in streams.chunks():
        x = streams.read(_BEFORE, part)
        target = ((streams.read(_AFTER, part) - x) * errors).float()
        squares += target.square().sum((0, 1), dtype=torch.float64)
        q, k, v = split_heads(sublayer, sublayer.norm(x))
        for width, gathered in zip(widths, moments, strict=True):
            parts = q[..., :width], k[..., :width], v[..., :width]
            z = nn.functional.scaled_dot_product_attention(*parts, scale=attn.scale)
            gathered.add(z.transpose(1, 2).flatten(2), target)
    return tuple(_narrow(m, squares, width) for m, width in zip(moments, widths, strict=True))


def _narrow(moments: Moments, squares: Tensor, width: int) -> NarrowHeads:
    """squares: [D] float64, of the targets, summed over all tokens."""
    weight = moments.solve(RIDGE)[0].double()
    variance = float((squares / moments.count - (moments.t / moments.count).square()).sum())
    explained = float((weight * moments.cross().T).sum())
    return NarrowHeads(width, max(variance - explained, 0.0), importance(moments.covariance(), weight, width, 1))
