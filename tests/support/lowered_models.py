"""How far lowering moves a model."""

from __future__ import annotations

import timm
import tiny_families
import torch
from tiny_families import SMALL, STAGES
from torch import nn

from wdp_edge.lowering.parts import Norms
from wdp_edge.lowering.vit import lower

FORMS = tiny_families.FORMS | {
    "average pooling after the norm": ("vit_tiny_patch16_224", {**SMALL, "global_pool": "avg", "fc_norm": False}),
    "max pooling": ("vit_tiny_patch16_224", {**SMALL, "global_pool": "max"}),
    "norm before the blocks": ("vit_tiny_patch16_224", {**SMALL, "pre_norm": True}),
    "no qkv bias": ("vit_tiny_patch16_224", {**SMALL, "qkv_bias": False}),
    "swin in three stages": ("swin_tiny_patch4_window7_224", {**STAGES, "depths": (1, 1, 1), "num_heads": (2, 4, 8)}),
    "swin in two stages": ("swin_tiny_patch4_window7_224", {**STAGES, "depths": (1, 2), "num_heads": (2, 4)}),
    "swin v2 in three stages": ("swinv2_tiny_window8_256", {**STAGES, "depths": (1, 1, 1), "num_heads": (2, 4, 8)}),
    "class token of a dinov3": (
        "vit_small_patch16_dinov3",
        {**SMALL, "global_pool": "token", "dynamic_img_size": False},
    ),
}


def made(form: str) -> nn.Module:
    name, args = FORMS[form]
    return timm.create_model(name, num_classes=5, **args).eval()


def spread(model: nn.Module) -> nn.Module:
    """Random weights, also where timm starts with ones and zeros, so that no folding goes unseen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def error(model: nn.Module, norms: Norms = "folded") -> float:
    """Largest difference in float64, where rounding cannot hide a wrong term."""
    model = spread(model).double()
    torch.set_default_dtype(torch.float64)
    try:
        lowered = lower(model, norms)
        images = torch.randn(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return max(float((lowered(x) - model(x)).abs().max()) for x in images)
    finally:
        torch.set_default_dtype(torch.float32)
