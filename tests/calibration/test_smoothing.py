"""Smoothing is an exact rewrite that moves outliers from activations into weights."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import tiny_families
import torch
from tiny_families import SMALL
from tiny_vit import TINY, lively
from torch import Tensor, nn

from wdp_edge.calibration.smoothing import balance, largest_inputs, smooth
from wdp_edge.errors import InputError
from wdp_edge.models.attentions import projections
from wdp_edge.models.mlps import halves
from wdp_edge.models.smoothed import SmoothedNorm
from wdp_edge.models.spec import create
from wdp_edge.models.surgery import build
from wdp_edge.models.vit import blocks_of, structure_of, sublayers
from wdp_edge.targets.lowered_parts import LoweredNorm, Norms
from wdp_edge.targets.lowering import lower

FORMS = tiny_families.FORMS | {
    "no qkv bias": ("vit_tiny_patch16_224", {**SMALL, "qkv_bias": False}),
    "norm before the blocks": ("vit_tiny_patch16_224", {**SMALL, "pre_norm": True}),
}


def made(form: str) -> Any:
    name, args = FORMS[form]
    torch.manual_seed(0)
    return lively(timm.create_model(name, num_classes=5, **args)).double()


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def with_outliers(model: Any) -> Any:
    """A few channels that are a hundred times larger than the rest, as large ViTs have them."""
    with torch.no_grad():
        for block in blocks_of(model):
            block.norm1.weight[3] *= 100
            block.norm2.weight[5] *= 100
            projections(block.attn)[2][0][-7] *= 100
    return model


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_is_the_same_function(form: str, alpha: float) -> None:
    model = with_outliers(made(form))
    smoothed = smooth(model, images(), alpha)
    with torch.no_grad():
        assert float((smoothed(images()) - model(images())).abs().max()) < 1e-9
    before = [s.norm for s in sublayers(smoothed) if s is not None and s.post_norm is None]
    assert all(type(norm) is SmoothedNorm for norm in before)


@pytest.mark.parametrize("norms", ["folded", "native"])
@pytest.mark.parametrize("form", FORMS)
def test_lowering_keeps_it_and_is_the_same_function(form: str, norms: Norms) -> None:
    model = with_outliers(made(form))
    smoothed = smooth(model, images())
    torch.set_default_dtype(torch.float64)
    try:
        lowered: Any = lower(smoothed, norms)
        with torch.no_grad():
            assert max(float((lowered(x) - model(x)).abs().max()) for x in images().split(1)) < 1e-9
    finally:
        torch.set_default_dtype(torch.float32)
    if form in tiny_families.SWIN:
        return
    block, source = lowered.blocks[0], smoothed.blocks[0]
    assert torch.equal(block.norm1.scale if norms == "folded" else block.norm1.weight, source.norm1.weight)
    first = block.fc1_g if block.gated else block.fc1
    assert torch.allclose(first.weight, halves(source.mlp)[0][0])


def test_cut_models_are_smoothed() -> None:
    dense = structure_of(create(TINY))
    model = lively(build(TINY, dense.with_widths([1, 3], [16, 48]))).double()
    smoothed = smooth(model, images())
    with torch.no_grad():
        assert float((smoothed(images()) - model(images())).abs().max()) < 1e-9


def spread(model: Any) -> dict[str, Tensor]:
    """Largest through median activation of every smoothed input."""
    with torch.no_grad():
        largest = largest_inputs(model, images())
    names = {module: name for name, module in model.named_modules()}
    return {names[layer]: value.max() / value.median() for layer, value in largest.items()}


def test_outliers_shrink_as_alpha_grows() -> None:
    model = with_outliers(made("plain"))
    before = spread(model)
    assert min(before[f"blocks.{i}.{n}"] for i in range(3) for n in ("norm1", "norm2")) > 10
    half, whole = spread(smooth(model, images(), 0.5)), spread(smooth(model, images(), 1.0))
    assert all(half[name] < before[name] for name in before)
    assert max(whole.values()) < 1 + 1e-6, "with alpha = 1 every channel has the same largest value"


def test_the_model_is_not_touched_and_the_images_decide() -> None:
    model = made("dinov2")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    a, b = smooth(model, images()), smooth(model, images() * torch.linspace(0, 3, 16))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not torch.equal(a.state_dict()["blocks.0.norm1.weight"], b.state_dict()["blocks.0.norm1.weight"])
    assert not any(m._forward_pre_hooks for m in a.modules())


def test_saved_weights_load_into_the_plain_model() -> None:
    model = made("plain")
    smoothed = smooth(model, images())
    plain = made("plain")
    plain.load_state_dict(smoothed.state_dict())
    with torch.no_grad():
        assert torch.allclose(plain(images()), model(images()))


def test_plain_models_lower_without_a_scale() -> None:
    lowered = lower(made("plain").float())
    norms = [m for m in lowered.modules() if isinstance(m, LoweredNorm)]
    assert len(norms) == 7 and all(n.scale is None for n in norms)


def test_balance_by_hand() -> None:
    activations, weights = torch.tensor([8.0, 2.0, 0.0, 1.0]), torch.tensor([2.0, 2.0, 5.0, 0.0])
    assert torch.allclose(balance(activations, weights, 0.5), torch.tensor([2**0.5, 0.5**0.5, 1, 1]))
    assert torch.allclose(balance(activations, weights, 1.0), torch.tensor([2.0, 0.5, 1, 1]))
    assert torch.allclose(balance(activations, weights, 0.0), torch.ones(4))


def test_other_models_and_alphas_are_refused() -> None:
    with pytest.raises(InputError, match="Sequential"):
        smooth(nn.Sequential(nn.Linear(4, 4)), images())
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="alpha"):
            smooth(made("plain"), images(), alpha)
