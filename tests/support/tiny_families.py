"""Tiny real models of every family and form that can be pruned."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import SwiGLU
from tiny_vit import lively

from wdp_edge.models.spec import ModelSpec, create

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
SCALED = {**SMALL, "init_values": 0.3}
STAGES = {
    "img_size": 16,
    "patch_size": 2,
    "embed_dim": 16,
    "depths": (1, 2, 1, 1),  # as many stages as real ones have: between two of them things happen that one lacks
    "num_heads": (2, 4, 4, 8),
    "window_size": 2,
}
Form = tuple[str, dict[str, Any]]

PLAIN: dict[str, Form] = {
    "plain": ("vit_tiny_patch16_224", SMALL),
    "dinov2": ("vit_small_patch14_dinov2", SCALED),
    "registers": ("vit_small_patch14_reg4_dinov2", SCALED),
    "average pooling": ("vit_base_patch16_gap_224", SMALL),
    "deit3": ("deit3_small_patch16_224", SCALED),
    "qk norm": ("vit_tiny_patch16_224", {**SMALL, "qk_norm": True}),
    "no class token": ("vit_tiny_patch16_224", {**SMALL, "class_token": False, "global_pool": "avg"}),
    "distilled": ("deit_tiny_distilled_patch16_224", SMALL),
    "packed swiglu": ("vit_giant_patch14_dinov2", {**SCALED, "mlp_ratio": 4.0}),
    "swiglu": ("vit_tiny_patch16_224", {**SMALL, "mlp_layer": SwiGLU}),
    "dynamic size": ("vit_tiny_patch16_224", {**SMALL, "dynamic_img_size": True}),
}
EVA: dict[str, Form] = {
    "dinov3": ("vit_small_patch16_dinov3", SCALED),
    "dinov3 with biases": ("vit_small_plus_patch16_dinov3_qkvb", SCALED),
    "eva02": ("eva02_tiny_patch14_224", SMALL),
    "eva02 with norms in the MLP": ("eva02_base_patch14_224", {**SMALL, "mlp_ratio": 2.0}),
    "axial rope": ("vit_small_patch16_rope_224", SCALED),
    "rope attention": ("vit_base_patch16_rope_reg1_gap_256", {**SCALED, "qk_norm": True}),
}
SWIN: dict[str, Form] = {
    "swin": ("swin_tiny_patch4_window7_224", STAGES),
    "swin with filled windows": ("swin_tiny_patch4_window7_224", {**STAGES, "depths": (2, 1, 1, 1), "window_size": 3}),
    "swin v2": ("swinv2_tiny_window8_256", STAGES),
}
FORMS = PLAIN | EVA | SWIN


def spec_of(form: str, classes: int = 5) -> ModelSpec:
    name, args = FORMS[form]
    return ModelSpec(name, classes, args)


def made(form: str) -> Any:
    """The model with weights that let every part count."""
    torch.manual_seed(0)
    return lively(create(spec_of(form)))
