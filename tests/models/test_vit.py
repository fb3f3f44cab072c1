"""What every Vision Transformer can be asked: in pieces it is itself, for every family and form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_families import FORMS, made

from wdp_edge.errors import InputError
from wdp_edge.models import vit


def some_images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_embedding_blocks_and_head_are_the_model(form: str) -> None:
    model = made(form)
    x = vit.embed(model, some_images())
    for number in range(len(vit.blocks_of(model))):
        x = vit.run_block(model, number, x)
    assert torch.allclose(vit.classify(model, x), model(some_images()), atol=1e-5)
    assert torch.allclose(vit.head_of(model)(vit.pooled(model, x)), model(some_images()), atol=1e-5)
    assert vit.has_classifier(model) and vit.example_of(model).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_tokens_are_counted(form: str) -> None:
    x = vit.embed(made(form), some_images())
    assert x.shape[1:-1].numel() == vit.tokens_of(made(form))


@pytest.mark.parametrize("form", ("plain", "distilled", "dinov2", "registers"))
@torch.no_grad()
def test_only_the_tokens_that_are_read_reach_the_head(form: str) -> None:
    model = made(form)
    x, read = vit.embed(model, some_images()), vit.read_tokens(model)
    assert read is not None
    changed = x.clone()
    changed[:, read:] += 1.0
    assert torch.equal(vit.classify(model, changed), vit.classify(model, x))
    changed[:, read - 1, 0] += 1.0
    assert not torch.allclose(vit.classify(model, changed), vit.classify(model, x))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_classifier_can_be_put_in_as_it_was_taken_out(form: str) -> None:
    model = made(form)
    found = vit.classifier(model)
    expected = model(some_images())
    vit.set_classifier(model, torch.zeros_like(found.weight), torch.zeros_like(found.bias))
    assert not model(some_images()).any()
    vit.set_classifier(model, found.weight, found.bias)
    assert torch.allclose(model(some_images()), expected, atol=1e-4)


@pytest.mark.parametrize("form", ["plain", "dinov3", "swin"])
@torch.no_grad()
def test_a_prefix_ends_after_any_sublayer(form: str) -> None:
    model = made(form)
    parts = vit.sublayers(model)
    x = vit.embed(model, some_images())
    assert torch.equal(vit.Prefix(model, 0)(some_images()), x)
    for count, part in enumerate(parts, start=1):
        assert part is not None
        x = part(x)
        assert torch.allclose(vit.Prefix(model, count)(some_images()), x, atol=1e-5)


@torch.no_grad()
def test_outputs_do_not_depend_on_the_batches(tiny_model: Any) -> None:
    tiny_model.train()
    assert torch.allclose(vit.logits(tiny_model, some_images(7), 3), tiny_model(some_images(7)), atol=1e-5)
    assert not tiny_model.training


def test_the_kernel_of_every_block_is_chosen(tiny_model: Any) -> None:
    for fused in (True, False):
        vit.set_fused_attention(tiny_model, fused)
        assert {block.attn.fused_attn for block in tiny_model.blocks} == {fused}


def test_exits_of_a_swin_need_its_mergings() -> None:
    plain, swin = made("plain"), made("swin")
    assert all(vit.ends_alike(plain, depth) for depth in (1, 2, 3))
    assert [vit.ends_alike(swin, depth) for depth in range(1, 6)] == [False] * 4 + [True]


def test_what_cannot_be_pruned_is_named_with_its_reason() -> None:
    with pytest.raises(InputError, match="'mine' cannot be pruned: it is a Linear"):
        vit.check_supported(torch.nn.Linear(2, 2), "mine")
    vit.check_supported(made("swin"), "mine")
