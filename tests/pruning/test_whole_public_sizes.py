"""DINOv2's weights for 518 px through the recipes of the project: real files; times by a FAKE clock.

The models have the public patches, positions and layer scales, and few narrow blocks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from fake_clock_run import fake_clock, recipe_of
from originals import drawn
from PIL import Image
from tiny_project import without_class_folders, write_images

import wdp_edge
from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import ModelRecipe, Recipe
from wdp_edge.pruning.prune import prune

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {"embed_dim": 64, "depth": 2, "num_heads": 2}


def masked(part: Path) -> None:
    """Images with a mask each instead of class folders."""
    for image in sorted(part.rglob("*.png")):
        mask = np.full((16, 16), ("blue", "green", "red").index(image.parent.name), np.uint8)
        place = part / "images" / f"{image.parent.name}-{image.name}"
        for folder in ("images", "masks"):
            (part / folder).mkdir(exist_ok=True)
        image.rename(place)
        Image.fromarray(mask).save(part / "masks" / place.name)
    for name in ("blue", "green", "red"):
        (part / name).rmdir()


def checkpoint(folder: Path, name: str, classes: int, registers_by_meta: bool) -> Path:
    """Of the public size, as timm or as Meta's release names it."""
    weights = drawn(timm.create_model(name, num_classes=classes, **SMALL)).state_dict()
    if registers_by_meta:
        width = SMALL["embed_dim"]
        weights["mask_token"], weights["register_tokens"] = torch.zeros(1, width), weights.pop("reg_token")
        weights["pos_embed"] = torch.cat([torch.zeros(1, 1, width), weights["pos_embed"]], dim=1)
    torch.save(weights, folder / "dinov2.pth")
    return folder / "dinov2.pth"


CASES: dict[str, tuple[str, int]] = {
    "dinov2_small_features": ("vit_small_patch14_reg4_dinov2", 224),
    "dinov2_small_retrieval": ("vit_small_patch14_dinov2", 224),
    "dinov2_small_segmentation": ("vit_small_patch14_dinov2", 448),
}


def recipe_for(case: str, folder: Path) -> Recipe:
    """The recipe of this name for other images and the small model, as init fills it; and no images to learn from."""
    given, (name, size) = load_recipe(RECIPES / f"{case}.toml"), CASES[case]
    assert given.model.args == {"img_size": size}
    for part, count in (("train", 8), ("val", 2)):
        write_images(folder / "data" / part, count)
        if given.model.task != "retrieve":
            {"features": without_class_folders, "segment": masked}[given.model.task](folder / "data" / part)
    path = checkpoint(folder, name, 3 if given.model.task == "segment" else 0, "reg4" in name)
    model: ModelRecipe = replace(
        given.model,
        name=name,
        args={**given.model.args, **SMALL},
        checkpoint=str(path),
        num_classes=3 if given.model.task == "segment" else 0,
    )
    found: Any = wdp_edge.init(model, folder / "data", folder)
    assert found.args["img_size"] == size
    small, own = recipe_of(folder, "60%", 0), load_recipe(folder / "wdp-edge.toml")
    select = replace(
        small.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=False, rounds=1, calibration_images=6
    )
    data = replace(
        given.data, train=own.data.train, val=own.data.val, holdout_images=3, calibration_images=6, workers=0
    )
    return replace(small, model=own.model, data=data, prune=replace(small.prune, target="onnx", select=select))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_weights_for_518_px_are_pruned_at_the_size_of_the_recipe(case: str, tmp_path: Path) -> None:
    with fake_clock(tmp_path / "tables"):
        result = prune(recipe_for(case, tmp_path))
    assert result.verified and result.budget.met and result.shipped.macs < result.dense.macs
    model: Any = wdp_edge.load(result.run / "model")
    _, size = CASES[case]
    assert model.patch_embed.img_size == (size, size)
    assert model.pos_embed.shape[1] - (size // 14) ** 2 == (0 if "reg4" in CASES[case][0] else 1)
