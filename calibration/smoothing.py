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
from wdp_edge.models.smoothed import SmoothedNorm
from wdp_edge.models.sublayers import sublayers
from wdp_edge.models.vit import check_known

_BATCH = 32


def smooth(model: nn.Module, images: Tensor, alpha: float = 0.5) -> nn.Module:
    """The same function with smoothed inputs of q, k, v and fc1 (scale taken from their LayerNorm) and proj (from v).

    model: a timm ViT, cut or not, not modified. images: [n, 3, H, W] as the model takes them; their largest
    activations decide. alpha: how much of an outlier moves into the weights, from 0 to 1.
    Raises InputError for a model of another family, or an alpha out of range.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"Smoothing with alpha = {alpha} is not possible.", "Choose alpha from 0 to 1.")
    check_known(model, "model")
    smoothed: Any = copy.deepcopy(model).eval()
    with torch.no_grad():
        largest = largest_inputs(smoothed, images)
        for block in smoothed.blocks:
            if block.attn is not None:
                block.norm1 = _smooth_norm(block.norm1, block.attn.qkv, largest, alpha)
                _smooth_values(block.attn, largest, alpha)
            if block.mlp is not None:
                block.norm2 = _smooth_norm(block.norm2, block.mlp.fc1, largest, alpha)
    return smoothed


def largest_inputs(model: Any, images: Tensor) -> dict[nn.Module, Tensor]:
    """max |x| per input channel, [D], of every qkv, proj and fc1 over the images."""
    largest: dict[nn.Module, Tensor] = {}
    layers = [s.reader for s in sublayers(model) if s is not None]
    layers += [b.attn.proj for b in model.blocks if b.attn is not None]
    with _watched(layers, largest):
        for part in images.split(_BATCH):
            model(part)
    return largest


@contextmanager
def _watched(layers: Sequence[nn.Module], largest: dict[nn.Module, Tensor]) -> Iterator[None]:
    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].abs().amax((0, 1))
        largest[layer] = torch.maximum(largest[layer], seen) if layer in largest else seen

    handles = [layer.register_forward_pre_hook(watch) for layer in layers]
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


def _smooth_norm(norm: Any, reader: nn.Linear, largest: dict[nn.Module, Tensor], alpha: float) -> nn.Module:
    """The norm with its output divided by s, which goes into `reader`. Norms of other kinds stay as they are."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    scale = balance(largest[reader], reader.weight.abs().amax(0), alpha)
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
    attn.qkv.weight[-attn.attn_dim :].div_(scale[:, None])
    if attn.qkv.bias is not None:
        attn.qkv.bias[-attn.attn_dim :].div_(scale)
