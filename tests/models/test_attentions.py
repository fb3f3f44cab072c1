"""timm's attentions seen alike: q, k and v, and heads cut out of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import FORMS, PLAIN, made

from wdp_edge.models import attentions, vit
from wdp_edge.models.families import family_of

# One of each kind: q, k and v in one matrix or in three, with biases of their own, with positions, with cosines.
KINDS = ("plain", "dinov3", "eva02", "rope attention", "swin", "swin v2")


def attention_of(form: str) -> Any:
    """The second block's sub-layer."""
    sublayer = vit.sublayers(made(form))[2]
    assert sublayer is not None
    return sublayer


@pytest.mark.parametrize("form", FORMS)
def test_q_k_and_v_are_the_parameters_themselves(form: str) -> None:
    attn = attention_of(form).module
    width = attentions.head_dim(attn) * attn.num_heads
    parts = attentions.projections(attn)
    assert [weight.shape[0] for weight, _ in parts] == [width] * 3
    assert all(bias is None or bias.shape == (width,) for _, bias in parts)
    with torch.no_grad():
        parts[2][0].zero_()
    readers = torch.cat([layer.weight for layer in attentions.readers(attn)])
    assert not readers[2 * width :].any() and readers[: 2 * width].any()


@torch.no_grad()
def attended(model: Any, x: torch.Tensor) -> torch.Tensor:
    """What the second block's attention writes."""
    part = vit.sublayers(model)[2]
    assert part is not None
    return part.inner(part.enter(x))


@pytest.mark.parametrize("form", KINDS)
@settings(max_examples=6)
@given(data=st.data())
def test_a_cut_attention_adds_up_what_its_heads_put_out(form: str, data: st.DataObject) -> None:
    """All heads together write the sum of two parts of them, but for the bias, which both have."""
    whole = made(form)
    x = vit.run_block(whole, 0, vit.embed(whole, torch.randn(2, 3, 16, 16)))
    attn = vit.blocks_of(whole)[1].attn
    some = data.draw(st.sets(st.integers(0, attn.num_heads - 1), min_size=1, max_size=attn.num_heads - 1))
    parts = []
    for heads in (some, set(range(attn.num_heads)) - some):
        model = made(form)
        block = vit.blocks_of(model)[1]
        block.attn = attentions.cut_heads(
            block.attn, torch.tensor(sorted(heads)), torch.arange(attentions.head_dim(attn))
        )
        assert block.attn.num_heads == len(heads)
        parts.append(attended(model, x))
    assert torch.allclose(parts[0] + parts[1] - attn.proj.bias, attended(whole, x), atol=1e-4)


@pytest.mark.parametrize("form", ["dinov3", "dinov3 with biases", "eva02"])
def test_the_attention_that_takes_any_heads_computes_the_same(form: str) -> None:
    sublayer = attention_of(form)
    made_anew = attentions.as_rope_attention(sublayer.module)
    x = torch.randn(2, 17 + sublayer.module.num_prefix_tokens - 1, 32)
    with torch.no_grad():
        assert torch.allclose(made_anew(x, **sublayer.inner.keywords), sublayer.inner(x), atol=1e-5)


def test_heads_of_a_plain_attention_alone_can_be_narrowed() -> None:
    plain = {form for form in FORMS if attentions.plain(attention_of(form).module)}
    assert plain == PLAIN.keys() - {"qk norm"}


def test_attentions_that_cannot_be_cut_say_why() -> None:
    attn, kinds = attention_of("plain").module, family_of(made("plain")).attentions
    assert attentions.unsupported(None, kinds) is None and attentions.unsupported(attn, kinds) is None
    assert "not the standard one" in (attentions.unsupported(attention_of("swin").module, kinds) or "")
    attn.norm = torch.nn.LayerNorm(32)
    assert "normalised across heads" in (attentions.unsupported(attn, kinds) or "")
    attn.norm = torch.nn.Identity()
    attn.num_kv_groups = 2
    assert "share keys and values" in (attentions.unsupported(attn, kinds) or "")
