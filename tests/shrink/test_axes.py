"""shrink/axes.py: heads in principal axes compute the same, and their first channels carry the most."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cut_models import error, pictures, prepare
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vit import lively

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.models.vit import structure_of
from wdp_edge.shrink.axes import balanced, narrow_widths, outward, principal_axes
from wdp_edge.shrink.compensation import compensate
from wdp_edge.shrink.saliency import fisher

WIDE = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2}
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vit_tiny_patch16_224", {}),
    "layer scale": ("vit_small_patch14_dinov2", {"init_values": 0.3}),
    "no qkv bias": ("vit_tiny_patch16_224", {"qkv_bias": False}),
    "average pooling": ("vit_base_patch16_gap_224", {}),
}


def made(form: str) -> Any:
    name, args = FORMS[form]
    torch.manual_seed(0)
    return lively(create(ModelSpec(name, 5, {**WIDE, **args})))


def turned_axes(model: Any, images: torch.Tensor, widths: tuple[int, ...]) -> Any:
    return principal_axes(model, images, prepare, fisher(model, images, prepare, 0), widths)


@pytest.mark.parametrize("form", FORMS)
def test_the_rewrite_is_exact_and_leaves_the_model_alone(form: str) -> None:
    model = made(form)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    turned, narrow = turned_axes(model, pictures(96), (4, 8))
    images = prepare(pictures(32, seed=9))
    with torch.no_grad():
        assert torch.allclose(turned(images), model(images), atol=1e-4)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not torch.allclose(turned.blocks[1].attn.qkv.weight, model.blocks[1].attn.qkv.weight, atol=1e-2)
    assert [[c.head_dim for c in costs] for costs in narrow] == [[4, 8]] * 3


@pytest.mark.parametrize("form", FORMS)
def test_first_channels_are_worth_more_than_any_others(form: str) -> None:
    model, images = made(form), pictures(256)
    dense = structure_of(model)
    turned, _ = turned_axes(model, images, ())
    heads, hidden = ((0, 1),) * 3, (tuple(range(dense.blocks[0].hidden)),) * 3
    errors = []
    for source, channels in ((turned, range(8)), (model, range(8)), (turned, range(8, 16))):
        small = cut(source, Kept(heads, hidden, (tuple(channels),) * 3))
        compensate(model, small, images, prepare)
        errors.append(error(model, small, pictures(64, seed=9)))
    assert errors[0] < errors[1] < errors[2]


def test_costs_fall_with_the_width_and_rise_with_missing_heads() -> None:
    _, narrow = turned_axes(made("layer scale"), pictures(256), (2, 6, 10, 14))
    for costs in narrow:
        assert [c.cost for c in costs] == sorted((c.cost for c in costs), reverse=True)
        assert all(c.lost(0) >= c.lost(1) >= c.lost(2) == c.cost >= 0 for c in costs)
        assert costs[-1].cost < 0.2 * costs[0].cost


def test_what_has_no_attention_stays_without() -> None:
    model = cut(made("plain"), Kept(((0, 1), (), (1,)), (tuple(range(8)),) * 3))
    turned, narrow = turned_axes(model, pictures(32), (4,))
    assert structure_of(turned) == structure_of(model) and [len(costs) for costs in narrow] == [1, 0, 1]


def test_widths() -> None:
    assert narrow_widths(made("plain"), 4) == (8, 12)
    assert narrow_widths(made("plain"), 8) == ()
    assert narrow_widths(create(ModelSpec("vit_tiny_patch16_224", 5, {**WIDE, "qk_norm": True})), 4) == ()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_products_stay_as_they_are(seed: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, writer = (torch.randn(40, width, generator=generator, dtype=torch.float64) for _ in range(3))
    turn_q, turn_k = balanced(q.T @ q, k.T @ k)
    assert torch.allclose((q @ turn_q.T) @ (k @ turn_k.T).T, q @ k.T, atol=1e-6)
    moments = turn_q @ (q.T @ q) @ turn_q.T
    assert torch.allclose(moments, moments.diagonal().diag(), atol=1e-6 * float(moments.max()))
    assert torch.allclose(moments, turn_k @ (k.T @ k) @ turn_k.T, atol=1e-6 * float(moments.max()))
    matrix, back = outward(q.T @ q, writer)
    assert torch.allclose(back @ matrix, torch.eye(width, dtype=torch.float64), atol=1e-6)
