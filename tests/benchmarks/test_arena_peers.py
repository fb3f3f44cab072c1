"""Torch-Pruning's models are timm models, of the structure that their tensors have."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from arena.cells import Cell, Key, Store
from arena.methods import uniform
from arena.paper import top
from arena.peers import TorchPruning, kept_channels, settle
from arena.setting import Setting
from tiny_vit import lively

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import count
from wdp_edge.models.vit import geometry_of, structure_of

pytest.importorskip("torch_pruning")


@pytest.fixture
def tiny_model() -> Any:
    """Heads of 32 channels: Torch-Pruning rounds to 8 of them, and loses count where a head has no more."""
    torch.manual_seed(0)
    args = {"img_size": 16, "patch_size": 4, "embed_dim": 128, "depth": 3, "num_heads": 4}
    return lively(create(ModelSpec("vit_tiny_patch16_224", 4, args)))


@pytest.fixture
def setting(tiny_model: Any) -> Setting:
    """The part of a Setting that making a model needs; gradients of the sum of logits stand in for those of a loss."""

    def gradients(batches: int, batch_size: int) -> dict[str, torch.Tensor]:
        tiny_model(torch.ones(1, 3, 16, 16)).sum().backward()
        return {name: p.grad for name, p in tiny_model.named_parameters()}

    target = SimpleNamespace(mlp_width_multiple=8)
    stand_in = SimpleNamespace(
        dense=tiny_model,
        data=SimpleNamespace(example=lambda: torch.zeros(1, 3, 16, 16)),
        tools=SimpleNamespace(target=target),
        recipe=SimpleNamespace(prune=SimpleNamespace(seed=0)),
        gradients=gradients,
    )
    return cast(Setting, stand_in)


@pytest.mark.parametrize("importance", ["random", "magnitude", "taylor"])
@pytest.mark.parametrize("scope", ["uniform", "global", "isomorphic"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_model_runs_and_its_attributes_fit(setting: Setting, importance: str, scope: str, bottleneck: bool) -> None:
    proposal = TorchPruning(importance, scope, bottleneck)(setting, 0.6)
    small, dense = proposal.model, setting.dense
    assert small(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    structure, before = structure_of(small), structure_of(dense)
    assert sum(b.hidden for b in structure.blocks) < sum(b.hidden for b in before.blocks)
    assert (structure.embed_dim == before.embed_dim) == bottleneck == (proposal.channels is None)
    for block in small.blocks:
        assert block.attn.qkv.out_features == 3 * block.attn.num_heads * block.attn.head_dim
    parameters = sum(p.numel() for p in small.parameters())
    assert parameters == count(structure, geometry_of(small)).parameters < sum(p.numel() for p in dense.parameters())


def test_kept_channels_are_found(setting: Setting) -> None:
    small = TorchPruning("magnitude", "global")(setting, 0.6)
    assert small.channels is not None
    kept = list(small.channels)
    torch.testing.assert_close(small.model.norm.weight, setting.dense.norm.weight[kept], rtol=0, atol=0)
    assert kept_channels(setting.dense, setting.dense) is None


def test_uniform_keeps_the_same_share_everywhere(setting: Setting) -> None:
    blocks = structure_of(uniform(setting, 0.5).model).blocks
    assert {(b.heads, b.hidden) for b in blocks} == {(2, 256)}


def test_top_takes_the_highest_scores() -> None:
    assert top([0.1, 3.0, -1.0, 2.0], 2) == (1, 3)


def test_cells_come_back(tmp_path: Path) -> None:
    store, key = Store(tmp_path), Key("ours", 0.5, 0, 100, True)
    assert store.find(key) is None
    cell = Cell(
        **key.__dict__,
        accuracy=0.9,
        made=0.49,
        macs=10,
        parameters=5,
        seconds=1.0,
        path=tmp_path / "a.pte",
        structure={},
    )
    store.put(cell)
    assert store.find(key) == cell and store.all() == [cell]
    assert store.find(Key("ours", 0.5, 1, 100, True)) is None


def test_a_block_counted_as_headless_keeps_its_heads(setting: Setting) -> None:
    """Torch-Pruning counts heads to 0 where all of a block's are to go, and leaves its tensors as they were."""
    model, images = setting.dense, torch.randn(2, 3, 16, 16)
    before, wanted = structure_of(model), model(images)
    settle(model, {b.attn: 0 if number == 1 else 4 for number, b in enumerate(model.blocks)})
    assert structure_of(model) == before
    assert torch.equal(model(images), wanted)
