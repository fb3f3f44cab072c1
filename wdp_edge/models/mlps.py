"""timm's MLPs seen alike: plain, and gated (SwiGLU), where a hidden unit is a pair of gate and value."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import GluMlp, Mlp, SwiGLU
from torch import Tensor, nn

from wdp_edge.models.layers import keep_channels, keep_inputs, keep_outputs

KINDS = (Mlp, GluMlp, SwiGLU)


def unsupported(mlp: Any) -> str | None:
    """Why its hidden units cannot be cut, or None."""
    if mlp is None or type(mlp) in KINDS:
        return None
    return f"its MLP is a {type(mlp).__name__}"


def readers(mlp: Any) -> tuple[nn.Linear, ...]:
    """The layers that read the stream."""
    return (mlp.fc1_g, mlp.fc1_x) if isinstance(mlp, SwiGLU) else (mlp.fc1,)


def halves(mlp: Any) -> tuple[tuple[Tensor, Tensor | None], ...]:
    """Weight [hidden, D] and bias of every matrix before the activation: one, or those of gate and value."""
    if not isinstance(mlp, GluMlp):
        return tuple((layer.weight, layer.bias) for layer in readers(mlp))
    biases = (None, None) if mlp.fc1.bias is None else mlp.fc1.bias.chunk(2)
    first, second = zip(mlp.fc1.weight.chunk(2), biases, strict=True)
    return (second, first) if mlp.gate_last else (first, second)


def cut_hidden(mlp: Any, units: Tensor) -> None:
    """Keeps these hidden units, [n] int64, in place."""
    hidden = mlp.fc2.in_features
    if len(units) == hidden:
        return
    rows = torch.cat([units, units + hidden]) if isinstance(mlp, GluMlp) else units
    for layer in readers(mlp):
        keep_outputs(layer, rows)
    if not isinstance(mlp.norm, nn.Identity):
        keep_channels(mlp.norm, units)
    keep_inputs(mlp.fc2, units)
