"""A smaller model whose first weights are the dense one's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from arena.smaller import evenly, shape_of, smaller
from tiny_project import ARGS, MODEL

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.vit import structure_of


@pytest.mark.parametrize(
    ("keep", "shape"), [(1.0, (6, 12)), (0.95, (6, 11)), (0.5, (4, 12)), (0.3, (3, 12)), (0.0, (1, 9))]
)
def test_the_largest_shape_of_a_share_of_the_weights(keep: float, shape: tuple[int, int]) -> None:
    assert shape_of(6, 12, keep) == shape


def test_places_are_spread_over_all() -> None:
    assert evenly(6, 3).tolist() == [0, 2, 4] and evenly(6, 6).tolist() == list(range(6))
    assert evenly(384, 256)[-1] == 382


def test_weights_are_those_of_the_same_channels_everywhere() -> None:
    spec = ModelSpec(MODEL, 3, ARGS)
    dense: Any = create(spec).eval()
    setting: Any = SimpleNamespace(dense=dense, structure=structure_of(dense), spec=spec)
    whole = smaller(setting, 1.0)
    x = torch.randn(2, 3, *dense.patch_embed.img_size)
    with torch.no_grad():
        assert torch.equal(whole.model(x), dense(x))
    small = smaller(setting, 0.3)
    structure = structure_of(small.model)
    assert small.channels is not None and len(small.channels) == structure.embed_dim < setting.structure.embed_dim
    stream = torch.tensor(small.channels)
    assert torch.equal(small.model.pos_embed, dense.pos_embed[..., stream])
    fc1 = dense.blocks[0].mlp.fc1.weight[evenly(*(m.blocks[0].mlp.fc1.out_features for m in (dense, small.model)))]
    assert torch.equal(small.model.blocks[0].mlp.fc1.weight, fc1[:, stream])
    with torch.no_grad():
        assert small.model(x).shape == (2, 3)
