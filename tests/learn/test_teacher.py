"""The dense model as teacher: a frozen copy, outputs of its blocks, and how far another stream is from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learning import batch

from wdp_edge.config.recipe import ComputeRecipe
from wdp_edge.learn.compute import Compute
from wdp_edge.learn.teacher import BlockOutputs, Teacher, feature_depths, feature_loss, output_tokens
from wdp_edge.models import vit


def test_a_teacher_says_what_the_model_says_and_does_not_follow_it(tiny_model: Any) -> None:
    images, _ = batch(0)
    with torch.no_grad():
        expected = tiny_model(images)
    teacher = Teacher(tiny_model, Compute(ComputeRecipe(mixed_precision="off"), tiny_model))
    assert torch.allclose(teacher(images), expected, atol=1e-5)
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert all(p.requires_grad for p in tiny_model.parameters())
    with torch.no_grad():
        tiny_model.head.weight.zero_()
    assert torch.allclose(teacher(images), expected, atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 12))
def test_places_are_spread_up_to_the_last_block(depth: int, count: int) -> None:
    places = feature_depths(depth, count)
    assert places == sorted(set(places)) and len(places) == min(count, depth)
    assert places[0] >= 1 and places[-1] == depth
    gaps = [after - before for before, after in zip([0, *places], places, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def test_outputs_of_blocks_are_those_of_the_model_run_in_pieces(tiny_model: Any) -> None:
    images, _ = batch(0)
    with torch.no_grad(), BlockOutputs(tiny_model, [1, 3]) as seen:
        tiny_model(images)
        x = vit.embed(tiny_model, images)
        for depth in range(1, 4):
            x = vit.run_block(tiny_model, depth - 1, x)
            assert depth == 2 or torch.allclose(seen.values[depth], x, atol=1e-5)
    assert set(seen.values) == {1, 3}
    seen.values.clear()
    tiny_model(images)
    assert not seen.values, "nothing is recorded afterwards"


def test_the_distance_is_relative_to_the_spread_over_tokens() -> None:
    wanted = 7 + torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1, 1, 8)
    assert float(feature_loss(wanted, wanted, None)) == 0
    mean = wanted.mean((0, 1)).expand_as(wanted)
    assert float(feature_loss(mean, wanted, None)) == pytest.approx(1.0, rel=0.2), "channels of any size count alike"
    spoilt = wanted.clone()
    spoilt[:, 1:] += 100
    assert float(feature_loss(spoilt, wanted, 1)) == 0 < float(feature_loss(spoilt, wanted, None))


def test_maps_are_compared_patch_by_patch() -> None:
    maps = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    tokens = output_tokens(maps)
    assert tokens.shape == (2, 20, 3) and torch.equal(tokens[1, 7], maps[1, :, 1, 2])
    assert output_tokens(maps[:, :, 0, 0]).shape == (2, 1, 3)
