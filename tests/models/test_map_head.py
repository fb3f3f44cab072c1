"""Models that put out a class of every patch: timm's own weights and numbers, cut, counted, repaired and learned."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from cut_models import halved, pictures, prepare
from lowered_models import error
from safetensors.torch import save_file
from tiny_families import FORMS
from tiny_vit import lively
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wdp_edge.config.recipe import LearnRecipe, RecoverRecipe
from wdp_edge.errors import InputError
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.exits import Exits, exits_of, forward_with_exits
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.recovery import Recovery, RecoveryPlan
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models import vit
from wdp_edge.models.files import load, load_dense, save
from wdp_edge.models.map_head import ConvMapHead, MapHead
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import count
from wdp_edge.models.surgery import Kept, build, cut
from wdp_edge.protocols.task import Output
from wdp_edge.shrink.compensation import compensate
from wdp_edge.shrink.saliency import fisher

CLASSES = 5
READABLE = ("plain", "registers", "no class token", "dinov3", "eva02")


Head = tuple[int, tuple[int, ...]]
LINEAR: Head = (0, ())
CONVOLUTIONAL: Head = (8, ())
OF_SEVERAL: Head = (0, (1, 3))
HEADS = {
    "linear": LINEAR,
    "convolutional": CONVOLUTIONAL,
    "of several blocks": OF_SEVERAL,
    "convolutional of several blocks": (8, (1, 2, 3)),
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def spec_of(form: str, head: Head = LINEAR) -> ModelSpec:
    name, args = FORMS[form]
    return ModelSpec(name, CLASSES, args, Output.MAP, *head)


def made(form: str, head: Head = LINEAR) -> Any:
    torch.manual_seed(0)
    return lively(create(spec_of(form, head)))


def some_images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("form", READABLE)
def test_a_map_is_timm_s_head_on_every_patch(form: str, tmp_path: Path) -> None:
    name, args = FORMS[form]
    torch.manual_seed(0)
    plain = lively(timm.create_model(name, num_classes=CLASSES, **{**args, "global_pool": ""}))
    save_file(plain.state_dict(), tmp_path / "dense.safetensors")
    model: Any = load_dense(spec_of(form), tmp_path / "dense.safetensors")
    with torch.no_grad():
        got, tokens = model(some_images()), plain(some_images())[:, model.num_prefix_tokens :]
    assert got.shape == (4, CLASSES, 4, 4)
    assert torch.allclose(got.flatten(2).transpose(1, 2), tokens, atol=1e-6)
    assert model.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("form", ["registers", "dinov3"])
def test_a_convolutional_head_reads_the_patches_as_a_picture(form: str, tmp_path: Path) -> None:
    name, args = FORMS[form]
    torch.manual_seed(0)
    trunk: Any = lively(timm.create_model(name, num_classes=0, **{**args, "global_pool": ""}))
    head = nn.Sequential(nn.Conv2d(32, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
    weights = trunk.state_dict() | {f"head.{key}": value for key, value in head.state_dict().items()}
    save_file(weights, tmp_path / "dense.safetensors")
    model: Any = load_dense(spec_of(form, CONVOLUTIONAL), tmp_path / "dense.safetensors")
    with torch.no_grad():
        patches = trunk.forward_features(some_images())[:, model.num_prefix_tokens :]
        wanted = head(patches.transpose(1, 2).reshape(4, 32, 4, 4))
        assert torch.allclose(model(some_images()), wanted, atol=1e-5)
    for channels in (0, 4):
        with pytest.raises(InputError, match="convolutional head of 8 channels") as caught:
            load_dense(spec_of(form, (channels, ())), tmp_path / "dense.safetensors")
        assert "head_channels = 8" in caught.value.hint


@pytest.mark.parametrize("form", ["registers", "dinov3"])
def test_a_head_of_several_blocks_reads_them_side_by_side(form: str, tmp_path: Path) -> None:
    name, args = FORMS[form]
    torch.manual_seed(0)
    trunk: Any = lively(timm.create_model(name, num_classes=0, **{**args, "global_pool": ""}))
    head = nn.Linear(2 * 32, CLASSES)
    weights = trunk.state_dict() | {f"head.{key}": value for key, value in head.state_dict().items()}
    save_file(weights, tmp_path / "dense.safetensors")
    model: Any = load_dense(spec_of(form, OF_SEVERAL), tmp_path / "dense.safetensors")
    with torch.no_grad():
        seen = trunk.forward_intermediates(some_images(), [0, 2], norm=True, intermediates_only=True)
        wanted = head(torch.cat(seen, 1).movedim(1, -1)).movedim(-1, 1)
        assert torch.allclose(model(some_images()), wanted, atol=1e-5)
        copied = copy.deepcopy(model)
        assert torch.allclose(copied(some_images()), wanted, atol=1e-5)
        assert model.head.taps[0].seen is None and copied.head.taps[0] is not model.head.taps[0]
    with pytest.raises(InputError, match="reads 64 channels, that of the recipe's model 32") as caught:
        load_dense(spec_of(form), tmp_path / "dense.safetensors")
    assert "head_blocks" in caught.value.hint
    deeper = made(form, (0, (2, 3)))
    with pytest.raises(InputError, match="blocks that would be removed"):
        cut(deeper, halved(deeper, 1))
    dense = vit.structure_of(deeper)
    shallow = build(spec_of(form, (0, (2, 3))), replace(dense, blocks=dense.blocks[:1]))
    with torch.no_grad():
        assert shallow(some_images()).shape == (4, CLASSES, 4, 4)
        assert error(shallow, "folded") < 1e-9
    assert exits_of(model, 2) == [] and exits_of(made(form), 1) == [2]


@pytest.mark.parametrize("blocks", [(1, 2), (3, 1), (1, 1, 3), (0, 3), (3, 4)])
def test_blocks_that_no_head_can_read(blocks: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="ascending numbers that end with 3"):
        create(spec_of("plain", (0, blocks)))


@every_head
@pytest.mark.parametrize("form", READABLE)
def test_cut_maps_are_masked_ones_with_exact_counts_and_survive_saving(form: str, head: Head, tmp_path: Path) -> None:
    model = made(form, head)
    dense = vit.structure_of(model)
    kept = Kept(((0, 2), (1,), (0, 1, 3)), ((1, 2, 3, 8), tuple(range(9)), (0,)))
    small = cut(model, kept).eval()
    with torch.no_grad(), MaskedForward(model) as masked:
        for name in ("heads", "hidden"):
            units = [getattr(b, name) for b in dense.blocks]
            rows = [torch.zeros(n) for n in units]
            for row, places in zip(rows, getattr(kept, name), strict=True):
                row[list(places)] = 1.0
            setattr(masked, name, rows)
        assert torch.allclose(model(some_images()), small(some_images()), atol=1e-5)
    vit.set_fused_attention(small, False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        expected = small(some_images(1))
    counts = count(kept.structure(dense), vit.geometry_of(model))
    assert counts.macs == counter.get_total_flops() / 2
    assert counts.parameters == sum(p.numel() for p in small.parameters())
    save(small, spec_of(form, head), tmp_path)
    again: Any = load(tmp_path)
    assert isinstance(again.head, ConvMapHead if head[0] else MapHead)
    vit.set_fused_attention(again, False)
    with torch.no_grad():
        assert torch.allclose(again(some_images(1)), expected, atol=1e-6)


@pytest.mark.parametrize("form", ["plain", "dinov2"])
@every_head
def test_what_loses_a_sub_layer_is_still_read(head: Head, form: str) -> None:
    model = made(form, head)
    blocks = vit.structure_of(model).blocks
    heads, hidden = ([tuple(range(getattr(b, name))) for b in blocks] for name in ("heads", "hidden"))
    heads[0], hidden[1] = (), ()
    small = cut(model, Kept(tuple(heads), tuple(hidden)))
    model.blocks[0].attn.proj.weight.data.zero_(), model.blocks[0].attn.proj.bias.data.zero_()
    model.blocks[1].mlp.fc2.weight.data.zero_(), model.blocks[1].mlp.fc2.bias.data.zero_()
    with torch.no_grad():
        assert torch.allclose(small(some_images()), model(some_images()), atol=1e-5)


@every_head
def test_counts_of_models_that_make_maps(head: Head) -> None:
    model = made("plain", head)
    widths = [(b.heads, b.hidden) for b in vit.structure_of(model).blocks]
    every = tuple(tuple(tuple(range(n)) for n in units) for units in zip(*widths, strict=True))
    small = cut(model, Kept(*every))
    vit.set_fused_attention(small, False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert small(some_images(1)).shape == (1, CLASSES, 4, 4)
    counts = count(vit.structure_of(small), vit.geometry_of(model))
    assert counts.macs == counter.get_total_flops() / 2
    assert counts.parameters == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(
    ("head", "depth"), [(LINEAR, 3), (LINEAR, 2), (CONVOLUTIONAL, 3), (CONVOLUTIONAL, 2), (OF_SEVERAL, 3)]
)
@pytest.mark.parametrize("form", ["plain", "dinov3"])
def test_maps_are_repaired_and_an_exit_gets_a_head_for_every_patch(form: str, depth: int, head: Head) -> None:
    model = made(form, head)
    small = cut(model, halved(model, depth))
    weights = copy.deepcopy(small.head.state_dict())

    def away() -> float:
        images = prepare(pictures(64, seed=9))
        with torch.no_grad():
            return float((small(images) - model(images)).square().mean())

    before = away()
    compensate(model, small, pictures(256), prepare)
    assert away() < 0.5 * before
    same = all(torch.equal(small.head.state_dict()[name], weights[name]) for name in weights)
    assert same == (depth == 3 or head == CONVOLUTIONAL)  # where no head can be fitted, the last sub-layer is


@pytest.mark.parametrize("head", [LINEAR, CONVOLUTIONAL])
def test_exits_put_out_maps_that_are_those_of_a_model_cut_there(head: Head) -> None:
    model = made("registers", head)
    blocks = vit.structure_of(model).blocks[:2]
    shallow = vit.structure_of(model).with_widths([b.heads for b in blocks], [b.hidden for b in blocks])
    with torch.no_grad():
        outputs, early = forward_with_exits(model, Exits(model, [2]), some_images())
        assert torch.allclose(outputs, model(some_images()), atol=1e-5)
        assert torch.allclose(early[0], cut(model, Kept.first(shallow))(some_images()), atol=1e-5)


@every_head
def test_learning_and_recovery_take_masks(head: Head) -> None:
    model = made("plain", head)
    dense = vit.structure_of(model)
    masks = torch.randint(0, CLASSES, (4, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    scores = [[[0.1 * i for i in range(getattr(b, name))] for b in dense.blocks] for name in ("heads", "hidden")]
    cost = CostModel([(1, 0.1), (4, 0.4)], [(8, 0.05), (128, 0.8)], 0.2)
    goal = SearchGoal(cost, 5.0, 2.5, 2, task="segment")
    search = Search(model, Masks(dense, *scores, Alignment(1, 8)), goal, LearnRecipe(exits=1))
    assert all(search.step(some_images(), masks)["loss"] > 0 for _ in range(2))
    small = cut(model, halved(model))
    recovery = Recovery(model, small, RecoveryPlan(20, task="segment"), RecoverRecipe(lr=1e-3))
    losses = [recovery.step(some_images(), masks)["loss"] for _ in range(20)]
    assert losses[-1] < losses[0]


@every_head
def test_every_patch_counts_in_the_fisher_information(head: Head) -> None:
    model = made("plain", head)
    information = fisher(model, pictures(8), prepare, 0, "segment")
    assert len(information) == 6 and all(torch.isfinite(i).all() and (i > 0).all() for i in information)


def test_models_without_patches_at_the_end_are_refused() -> None:
    with pytest.raises(InputError, match=r"cannot output a class map.*VisionTransformer"):
        create(ModelSpec(FORMS["swin"][0], CLASSES, FORMS["swin"][1], Output.MAP))
    with pytest.raises(InputError, match="distilled"):
        create(spec_of("distilled"))
    with pytest.raises(InputError, match="not made of whole patches of 4 x 4"):
        create(ModelSpec(FORMS["plain"][0], CLASSES, {**FORMS["plain"][1], "img_size": 18}, Output.MAP))
    with pytest.raises(InputError, match="needs patches to read"):
        create(ModelSpec(FORMS["plain"][0], CLASSES, FORMS["plain"][1], head_channels=8))
    with pytest.raises(InputError, match="at least 2 classes"):
        create(ModelSpec(FORMS["plain"][0], 0, FORMS["plain"][1], Output.MAP))
