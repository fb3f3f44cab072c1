"""What is the same for all families: which one a model belongs to, and heads whose mean the logits are."""

from __future__ import annotations

import pytest
import timm
import torch
from tiny_families import EVA, FORMS, PLAIN, SMALL, made
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.models.families import FAMILIES, family_of, find_family, known_families, unsupported
from wdp_edge.models.families.base import head_macs, mean_of_heads, set_heads
from wdp_edge.models.map_head import MapHead


@pytest.mark.parametrize("form", FORMS)
def test_every_model_has_its_family(form: str) -> None:
    expected = "VisionTransformer" if form in PLAIN else "Eva" if form in EVA else "SwinTransformer"
    assert family_of(made(form)).name.startswith(expected) and unsupported(made(form)) is None


def test_other_models_have_none_and_the_known_ones_are_named() -> None:
    other = timm.create_model("resnet10t")
    assert find_family(other) is None and unsupported(other) == "it is a ResNet"
    with pytest.raises(InputError, match="A ResNet cannot be pruned") as caught:
        family_of(other)
    assert caught.value.hint == known_families() and all(f.models in known_families() for f in FAMILIES)


def test_the_mean_of_several_heads_is_one_of_their_inputs_side_by_side() -> None:
    torch.manual_seed(0)
    heads, parts = [nn.Linear(6, 3), nn.Linear(6, 3)], torch.randn(4, 12)
    expected = torch.stack([head(part) for head, part in zip(heads, parts.chunk(2, 1), strict=True)]).mean(0)
    one = mean_of_heads(heads)
    assert torch.allclose(one(parts), expected, atol=1e-6)
    others: list[nn.Module] = [nn.Linear(6, 3), nn.Linear(6, 3)]
    set_heads(others, one.weight, one.bias)
    again = torch.stack([head(part) for head, part in zip(others, parts.chunk(2, 1), strict=True)]).mean(0)
    assert torch.allclose(again, expected, atol=1e-6)


def test_a_head_counts_once_or_at_every_patch() -> None:
    assert head_macs(nn.Linear(8, 5)) == 40
    assert head_macs(MapHead(nn.Linear(8, 5), (3, 4), [])) == 12 * 40
    assert head_macs(nn.Identity()) == 0


def test_a_model_that_drops_patches_is_refused_until_it_does_not() -> None:
    dropping = timm.create_model("vit_tiny_patch16_224", **SMALL, patch_drop_rate=0.5)
    assert "drops patches" in (unsupported(dropping) or "")
    dropping.patch_drop = nn.Identity()
    assert unsupported(dropping) is None
