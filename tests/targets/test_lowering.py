"""targets/lowering.py: the lowered copy is the same function, for every form of ViT we know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import build
from wdp_edge.models.vit import structure_of
from wdp_edge.targets.lowering import LoweredViT, lower

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vit_tiny_patch16_224", SMALL),
    "layer scale": ("vit_small_patch14_dinov2", SMALL),
    "registers": ("vit_small_patch14_reg4_dinov2", SMALL),
    "average pooling": ("vit_base_patch16_gap_224", SMALL),
    "average pooling after the norm": (
        "vit_tiny_patch16_224",
        {**SMALL, "global_pool": "avg", "fc_norm": False},
    ),
    "max pooling": ("vit_tiny_patch16_224", {**SMALL, "global_pool": "max"}),
    "qk norm": ("vit_tiny_patch16_224", {**SMALL, "qk_norm": True}),
    "norm before the blocks": ("vit_tiny_patch16_224", {**SMALL, "pre_norm": True}),
    "no qkv bias": ("vit_tiny_patch16_224", {**SMALL, "qkv_bias": False}),
    "deit3": ("deit3_small_patch16_224", SMALL),
}


def spread(model: nn.Module) -> nn.Module:
    """Random weights, also where timm starts with ones and zeros, so that no folding goes unseen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def error(model: nn.Module) -> float:
    """Largest difference in float64, where rounding cannot hide a wrong term."""
    model = spread(model).double()
    torch.set_default_dtype(torch.float64)
    try:
        lowered = lower(model)
        images = torch.randn(4, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            return max(float((lowered(x) - model(x)).abs().max()) for x in images)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("form", FORMS)
def test_lowering_is_exact(form: str) -> None:
    name, args = FORMS[form]
    model = create(ModelSpec(name, 5, args))
    assert isinstance(lower(model), LoweredViT)
    assert error(model) < 1e-9


def test_cut_models_with_different_widths_lower_exactly() -> None:
    spec = ModelSpec("vit_small_patch14_dinov2", 5, SMALL)
    dense = structure_of(create(spec))
    assert error(build(spec, dense.with_widths([1, 3], [8, 56]))) < 1e-9


def test_float32_stays_within_rounding() -> None:
    model = spread(create(ModelSpec("vit_tiny_patch16_224", 5, SMALL)))
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert float((lower(model)(x) - model(x)).abs().max()) < 1e-5


def test_the_model_itself_is_not_touched() -> None:
    model = spread(create(ModelSpec("vit_small_patch14_dinov2", 5, SMALL)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lower(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert len(model.blocks) == 3
    assert all(p.requires_grad for p in model.parameters())


def test_other_modules_are_copied() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).train()
    lowered = lower(module)
    x = torch.randn(1, 4)
    assert lowered is not module and not lowered.training and module.training
    assert torch.equal(lowered(x), module(x))
