"""Smoothing of activation outliers before quantization (SmoothQuant, Xiao et al. 2023), as an exact rewrite.

A channel with large activations and small weights wastes the range that all channels share. Dividing the activation
by s and multiplying the weights by s changes nothing but the balance: s = max|x|^alpha / max|w|^(1 - alpha).
docs/quantization.md says when it pays.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models import attentions
from wdp_edge.models.smoothed import SmoothedNorm
from wdp_edge.models.sublayers import Sublayer
from wdp_edge.models.vit import blocks_of, check_supported, sublayers

_BATCH = 32


def smooth(model: nn.Module, images: Tensor, alpha: float = 0.5) -> nn.Module:
    """The same function with smoothed inputs of q, k, v and fc1 (scale taken from their LayerNorm) and proj (from v).

    model: a timm ViT, cut or not, not modified. images: [n, 3, H, W] as the model takes them; their largest
    activations decide. alpha: how much of an outlier moves into the weights, from 0 to 1.
    Raises InputError for a model of another family, or an alpha out of range.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"Smoothing with alpha = {alpha} is not possible.", "Choose alpha from 0 to 1.")
    check_supported(model, "model")
    smoothed: Any = copy.deepcopy(model).eval()
    with torch.no_grad():
        largest = largest_inputs(smoothed, images)
        parts = sublayers(smoothed)
        for block, attention, mlp in zip(blocks_of(smoothed), parts[0::2], parts[1::2], strict=True):
            if attention is not None:
                block.norm1 = _smooth_norm(block.norm1, attention, largest, alpha)
                _smooth_values(attention.module, largest, alpha)
            if mlp is not None:
                block.norm2 = _smooth_norm(block.norm2, mlp, largest, alpha)
    return smoothed


def largest_inputs(model: Any, images: Tensor) -> dict[nn.Module, Tensor]:
    """max |x| per channel, [D], over the images: of what every norm before a sub-layer gives, and of proj's inputs."""
    largest: dict[nn.Module, Tensor] = {}
    parts = [s for s in sublayers(model) if s is not None]
    norms = [s.norm for s in parts if isinstance(s.norm, nn.LayerNorm)]
    writers = [b.attn.proj for b in blocks_of(model) if b.attn is not None]
    with _watched(norms, writers, largest):
        for part in images.split(_BATCH):
            model(part)
    return largest


@contextmanager
def _watched(
    givers: Sequence[nn.Module], takers: Sequence[nn.Module], largest: dict[nn.Module, Tensor]
) -> Iterator[None]:
    """Outputs of `givers` and inputs of `takers`."""

    def note(layer: nn.Module, x: Tensor) -> None:
        seen = x.abs().flatten(0, -2).amax(0)
        largest[layer] = torch.maximum(largest[layer], seen) if layer in largest else seen

    handles = [layer.register_forward_hook(lambda m, _, output: note(m, output)) for layer in givers]
    handles += [layer.register_forward_pre_hook(lambda m, args: note(m, args[0])) for layer in takers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def balance(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """s: [D] from the largest absolute activations and weights per channel, both [D].

    Its geometric mean is 1, so that nothing grows as a whole. A channel that is always zero keeps its scale.
    """
    alive = (activations > 0) & (weights > 0)
    exponent = torch.zeros_like(activations)
    exponent[alive] = alpha * activations[alive].log() - (1 - alpha) * weights[alive].log()
    if alive.any():
        exponent[alive] -= exponent[alive].mean()
    return exponent.exp()


def _smooth_norm(norm: Any, sublayer: Sublayer, largest: dict[nn.Module, Tensor], alpha: float) -> nn.Module:
    """The norm with its output divided by s, which goes into the readers. Other norms stay as they are."""
    if norm is not sublayer.norm or not isinstance(norm, nn.LayerNorm):
        return norm
    weights = torch.stack([r.weight.abs().amax(0) for r in sublayer.readers]).amax(0)
    scale = balance(largest[norm], weights, alpha)
    for reader in sublayer.readers:
        reader.weight.mul_(scale)
    smoothed: Any = SmoothedNorm(norm.normalized_shape, norm.eps, bias=norm.bias is not None).to(scale)
    smoothed.weight.copy_(1 / scale if norm.weight is None else norm.weight / scale)
    if norm.bias is not None:
        smoothed.bias.copy_(norm.bias / scale)
    return smoothed.eval()


def _smooth_values(attn: Any, largest: dict[nn.Module, Tensor], alpha: float) -> None:
    """Attention is linear in v: what divides a channel of v is made up for by a column of proj."""
    scale = balance(largest[attn.proj], attn.proj.weight.abs().amax(0), alpha)
    attn.proj.weight.mul_(scale)
    weight, bias = attentions.projections(attn)[2]
    weight.div_(scale[:, None])
    if bias is not None:
        bias.div_(scale)
