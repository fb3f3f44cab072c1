"""How a model takes pixels, folded into its first convolution: normalisation, and the order of the channels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.models.vit import check_supported


def fold_normalization(model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """A copy that takes pixels of 0 to 255, [B, 3, H, W], instead of (pixels / 255 - mean) / std: exactly the same.

    Goes into the patch embedding, which has no padding. Only the exported form also takes them as uint8.
    Raises InputError when the model is not of the family.
    """
    check_supported(model, "model")
    folded: Any = copy.deepcopy(model).eval()
    conv = folded.patch_embed.proj
    scale = 1 / (255 * torch.tensor(std, dtype=conv.weight.dtype))
    shift = -torch.tensor(mean, dtype=conv.weight.dtype) / torch.tensor(std, dtype=conv.weight.dtype)
    with torch.no_grad():
        constant = (conv.weight * shift[None, :, None, None]).sum((1, 2, 3))
        bias = constant if conv.bias is None else conv.bias + constant
        conv.bias = nn.Parameter(bias)
        conv.weight.mul_(scale[None, :, None, None])
    return folded


def take_rgb(model: nn.Module, channels: str) -> nn.Module:
    """A copy that takes red, green, blue, in whichever order the model was trained.

    channels: "rgb", where it is the model itself, or "bgr".
    Raises InputError for "bgr" where no convolution of three channels stands first.
    """
    if channels == "rgb":
        return model
    turned = copy.deepcopy(model)
    first = next((module for module in turned.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels != 3:
        raise InputError(
            "channels = bgr cannot be kept: the model does not begin with a convolution of three channels.",
            "Remove channels from preprocess in [data].",
        )
    with torch.no_grad():
        first.weight.copy_(first.weight.flip(1))
    return turned
