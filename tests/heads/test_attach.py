"""A backbone with a new head: a classifier that loads as any other, and what is said where none can be fitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FORMS, made
from tiny_project import CLASSES, write_images

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.listed import read_list
from wdp_edge.errors import InputError
from wdp_edge.heads.attach import WithHead, attach, check_possible
from wdp_edge.models.files import load_dense
from wdp_edge.models.fitting import without_head
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Labels


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> tuple[ImageFolder, ImageFolder]:
    write_images(tmp_path / "train", 20)
    write_images(tmp_path / "val", 6)
    return scan(tmp_path / "train"), scan(tmp_path / "val")


def backbone(folder: Path, form: str = "plain", head: bool = False) -> ModelRecipe:
    """A recipe of a tiny model of this form, and its checkpoint, with a head of 5 classes or without."""
    weights = made(form).state_dict()
    save_file(weights if head else without_head(weights), folder / "backbone.safetensors")
    name, args = FORMS[form]
    return ModelRecipe(name, args, len(CLASSES), str(folder / "backbone.safetensors"))


def written(folder: Path, model: ModelRecipe, headed: WithHead) -> Any:
    """The model as it is read back."""
    recipe = headed.written(model, folder / "with_head.safetensors")
    return load_dense(ModelSpec.of(recipe), Path(recipe.checkpoint))


@pytest.mark.parametrize("form", ["plain", "distilled", "average pooling", "dinov3", "swin"])
def test_a_backbone_becomes_a_classifier(form: str, tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    model = backbone(tmp_path, form)
    headed = attach(model, *data, {})
    assert headed.figures.val > 0.9 and headed.figures.held_back > 0.9, "these classes are colours"
    assert headed.figures.chance == pytest.approx(1 / 3) and not headed.warnings and not headed.figures.replaced
    assert (headed.figures.train_images, headed.figures.held_back_images, headed.figures.val_images) == (60, 12, 18)
    again = written(tmp_path, model, headed)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(images), headed.module(images))
    given, kept = load_file(model.checkpoint), load_file(tmp_path / "with_head.safetensors")
    assert all(torch.equal(given[key], kept[key]) for key in given), "the backbone stays as it was"


def test_the_checkpoint_s_own_head_does_not_count(tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    bare = attach(backbone(tmp_path), *data, {})
    own = attach(backbone(tmp_path, head=True), *data, {})
    assert own.figures.replaced == "one with 5 outputs"
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(own.module(images), bare.module(images))


def test_a_backbone_of_blue_green_red_keeps_its_order(tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    model = backbone(tmp_path)
    weights = load_file(model.checkpoint)
    turned = {**weights, "patch_embed.proj.weight": weights["patch_embed.proj.weight"].flip(1).contiguous()}
    save_file(turned, tmp_path / "bgr.safetensors")
    other = replace(model, checkpoint=str(tmp_path / "bgr.safetensors"))
    rgb, bgr = attach(model, *data, {}), attach(other, *data, {"channels": "bgr"})
    assert torch.equal(rgb.module.head.weight, bgr.module.head.weight), "the same features, so the same head"
    other = bgr.written(other, tmp_path / "with_head.safetensors")
    kept = load_file(other.checkpoint)["patch_embed.proj.weight"]
    assert torch.equal(kept, turned["patch_embed.proj.weight"])


def test_several_labels_per_image(tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    for part in ("train", "val"):
        folder = data[part == "val"]
        rows = [f"{part}/{path},{'warm;' if folder.labels[i] == 2 else ''}{folder.classes[folder.labels[i]]}"
                for i, path in enumerate(folder.paths)]  # fmt: skip
        (tmp_path / f"{part}.csv").write_text("\n".join(["path,label", *rows]))
    train, val = (read_list(tmp_path / f"{part}.csv", Labels.MANY) for part in ("train", "val"))
    model = replace(backbone(tmp_path), task="multilabel", num_classes=4)
    figures = attach(model, train, val, {}).figures
    assert figures.metric == "mAP" and figures.val > 0.9 and figures.chance == pytest.approx(1 / 3)


def test_labels_of_other_images_are_doubted(tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    train, val = data
    labels = [train.labels[i] for i in torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()]
    mixed = replace(train, labels=tuple(labels))
    assert "no better than chance on 18 validation images" in attach(backbone(tmp_path), mixed, val, {}).warnings[0]


def test_what_is_left_out_and_what_is_absent_is_said(tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    train, val = data
    (train.root / train.paths[3]).write_bytes(b"no image")
    val = val.subset([i for i, label in enumerate(val.labels) if label])
    said = attach(backbone(tmp_path), train, val, {}).warnings
    assert train.paths[3] in said[0] and "no validation images (blue)" in said[1]


def test_an_image_of_each_class_is_too_few(tmp_path: Path, data: tuple[ImageFolder, ImageFolder]) -> None:
    train, val = data
    with pytest.raises(InputError, match="one image of each class"):
        attach(backbone(tmp_path), train.subset([0, 20, 40]), val, {})
    assert attach(backbone(tmp_path), train.subset([0, 20, 21, 40]), val, {}).figures.held_back_images == 1


@pytest.mark.parametrize(
    ("task", "says"), [("features", "needs no head"), ("retrieve", "needs no head"), ("segment", "every patch")]
)
def test_tasks_without_such_a_head(tmp_path: Path, task: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_possible(ModelRecipe(task=task), tmp_path / "out.safetensors", force=True)


def test_what_must_not_be_written(tmp_path: Path) -> None:
    model = backbone(tmp_path)
    with pytest.raises(InputError, match="is the checkpoint itself"):
        check_possible(model, Path(model.checkpoint), force=True)
    with pytest.raises(InputError, match=r"does not end in \.safetensors"):
        check_possible(model, tmp_path / "head.pth", force=True)
    (tmp_path / "there.safetensors").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        check_possible(model, tmp_path / "there.safetensors", force=False)
    check_possible(model, tmp_path / "there.safetensors", force=True)
