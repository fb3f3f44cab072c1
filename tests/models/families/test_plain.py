"""timm's plain Vision Transformers, and blocks of which whole sub-layers are gone."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_families import PLAIN, SMALL, made

from wdp_edge.models.families import unsupported
from wdp_edge.models.families.plain import PartialBlock, PlainViT

FAMILY = PlainViT()


@pytest.mark.parametrize("form", ["plain", "dinov2", "qk norm", "packed swiglu"])
@pytest.mark.parametrize(("attention", "mlp"), [(True, True), (True, False), (False, True), (False, False)])
@torch.no_grad()
def test_a_partial_block_is_the_block_whose_other_part_adds_nothing(form: str, attention: bool, mlp: bool) -> None:
    block = made(form).blocks[1]
    partial = FAMILY.partial(made(form).blocks[1], attention, mlp)
    x = torch.randn(2, 17, 32)
    for stays, writer in ((attention, block.attn.proj), (mlp, block.mlp.fc2)):
        for parameter in () if stays else writer.parameters():
            parameter.zero_()
    assert isinstance(partial, PartialBlock) and torch.allclose(partial(x), block(x), atol=1e-6)
    assert set(partial.state_dict()) <= set(block.state_dict()), "saved weights keep their names"
    assert bool(partial.state_dict()) == (attention or mlp)


@pytest.mark.parametrize("form", PLAIN)
def test_two_heads_read_two_tokens(form: str) -> None:
    model = made(form)
    heads = 2 if form == "distilled" else 1
    x = FAMILY.embed(model, torch.randn(3, 3, 16, 16))
    assert x.shape == (3, FAMILY.tokens(model), 32)
    assert len(FAMILY.heads(model)) == heads and FAMILY.pooled(model, x, 3, model.norm).shape == (3, 32 * heads)


def test_truncated_models_run_their_first_blocks() -> None:
    model, short = made("plain"), made("plain")
    FAMILY.truncate(short, 2)
    FAMILY.trim_features(short)
    model.blocks[2] = torch.nn.Identity()
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(short(images), model(images)) and len(short.feature_info) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vit_base_patch16_siglip_224", "by attention; vit_base_patch16_siglip_gap_224 takes its weights"),
        ("vit_base_patch16_18x2_224", "its blocks are ParallelThingsBlock"),
        ("vit_large_r50_s32_224", "not from one convolution"),
    ],
)
def test_forms_that_cannot_be_pruned(name: str, said: str) -> None:
    with torch.device("meta"):
        reason = unsupported(timm.create_model(name, depth=1))
    assert said in (reason or "")


def test_normalised_heads_keep_their_channels() -> None:
    fixed = {form for form in PLAIN if FAMILY.fixed_heads(made(form))}
    assert fixed == {"qk norm"}
    assert FAMILY.fixed_heads(timm.create_model("vit_tiny_patch16_224", **SMALL)) is None
