"""Linear layers and norms: with fewer inputs, outputs or channels, in place."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def keep_outputs(linear: nn.Linear, index: Tensor) -> None:
    """linear: only these outputs stay, [n] int64."""
    linear.weight = kept(linear.weight, index, 0)
    if linear.bias is not None:
        linear.bias = kept(linear.bias, index)
    linear.out_features = len(index)


def keep_inputs(linear: nn.Linear, index: Tensor) -> None:
    """linear: only these inputs stay, [n] int64."""
    linear.weight = kept(linear.weight, index)
    linear.in_features = len(index)


def keep_channels(norm: Any, index: Tensor) -> None:
    """norm: a LayerNorm or RmsNorm over the last dimension; only these channels stay, [n] int64."""
    norm.normalized_shape = (len(index),)
    for name in ("weight", "bias"):
        if getattr(norm, name, None) is not None:
            setattr(norm, name, kept(getattr(norm, name), index))


def kept(parameter: Tensor, index: Tensor, dim: int = -1) -> nn.Parameter:
    """parameter: [..., D] -> [..., n], or along another dimension; trainable where it was."""
    return nn.Parameter(parameter.detach().index_select(dim, index), parameter.requires_grad)
