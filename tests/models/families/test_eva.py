"""timm's Eva: rotary embeddings, and blocks of which whole sub-layers are gone."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_families import EVA, SMALL, made

from wdp_edge.models.families import unsupported
from wdp_edge.models.families.eva import EvaFamily, PartialEvaBlock

FAMILY = EvaFamily()


@pytest.mark.parametrize("form", EVA)
@pytest.mark.parametrize(("attention", "mlp"), [(True, True), (True, False), (False, True), (False, False)])
@torch.no_grad()
def test_a_partial_block_is_the_block_whose_other_part_adds_nothing(form: str, attention: bool, mlp: bool) -> None:
    model = made(form)
    block, rope = model.blocks[1], FAMILY.rotation(model)
    partial = FAMILY.partial(made(form).blocks[1], attention, mlp)
    x = torch.randn(2, FAMILY.tokens(model), 32)
    for stays, writer in ((attention, block.attn.proj), (mlp, block.mlp.fc2)):
        for parameter in () if stays else writer.parameters():
            parameter.zero_()
    assert isinstance(partial, PartialEvaBlock)
    assert torch.allclose(partial(x, rope=rope), block(x, rope=rope), atol=1e-6)
    assert set(partial.state_dict()) <= set(block.state_dict()), "saved weights keep their names"


@pytest.mark.parametrize("form", EVA)
@torch.no_grad()
def test_patches_are_rotated_by_their_places(form: str) -> None:
    model = made(form)
    rope = FAMILY.rotation(model)
    assert rope is not None and rope.shape == (16, 2 * 8) and not torch.allclose(rope[0], rope[5])
    x = FAMILY.embed(model, torch.randn(2, 3, 16, 16))
    step = FAMILY.block(model, 0)
    assert torch.equal(step(x), model.blocks[0](x, rope=rope))
    assert not torch.allclose(step(x), model.blocks[0](x, rope=rope.flip(0)), atol=1e-3)
    assert FAMILY.fixed_heads(model)


def test_an_embedding_that_every_head_learns_is_refused() -> None:
    model = timm.create_model("vit_small_patch16_rope_mixed_224", **SMALL)
    assert "learned for every head" in (unsupported(model) or "")
