"""The drawn project: images and masks of every class that fit each other, and a small model that learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapes_project as shapes

from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import load_recipe
from wdp_edge.data.listed import scan_pairs
from wdp_edge.demo.train import TrainOptions
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec


def test_a_project_is_made_once(tmp_path: Path) -> None:
    counts, options = {"train": 12, "val": 6}, TrainOptions(steps=2, batch_size=4)
    shapes.make(tmp_path, counts, options)
    weights = (tmp_path / "dense.safetensors").read_bytes()
    shapes.make(tmp_path, counts, options)
    assert (tmp_path / "dense.safetensors").read_bytes() == weights
    recipe = load_recipe(tmp_path / RECIPE_FILE)
    assert (recipe.model.task, recipe.model.num_classes) == ("segment", 6)
    assert ModelSpec.of(recipe.model) == shapes.SPEC
    load_dense(shapes.SPEC, tmp_path / "dense.safetensors")
    assert len(scan_pairs(tmp_path / "images/train")) == 12


def test_drawings_are_the_same_for_the_same_number_and_hold_every_class() -> None:
    seen: set[int] = set()
    for number in range(20):
        image, mask = shapes.draw(np.random.default_rng([0, number]))
        again, _ = shapes.draw(np.random.default_rng([0, number]))
        assert (np.asarray(image) == np.asarray(again)).all() and image.size == mask.size == (shapes.SIDE, shapes.SIDE)
        seen |= set(np.unique(np.asarray(mask)).tolist())
    assert seen == set(range(len(shapes.CLASSES)))
