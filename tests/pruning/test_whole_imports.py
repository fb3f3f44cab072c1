"""Checkpoints of other libraries through init and the whole loop: real files; times by a FAKE clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import transformers as hf
from fake_clock_run import fake_clock, recipe_of
from originals import BOTH, SIZE, TEXT, drawn, save
from tiny_project import without_class_folders, write_images
from torchvision.models.vision_transformer import VisionTransformer

import wdp_edge
from wdp_edge.commands.export import export
from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import ModelRecipe, Recipe
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.results import PruneResult

hf.logging.set_verbosity_error()
SOURCES = {
    "torchvision": (lambda: VisionTransformer(32, 8, 2, 4, 32, 128, num_classes=3), "classify"),
    "dinov2": (lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZE, mlp_ratio=4)), "features"),
    "clip": (lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**BOTH)), "features"),
    "siglip": (lambda: hf.SiglipModel(hf.SiglipConfig(vision_config=BOTH, text_config=TEXT)), "features"),
}
ALL = ["executorch", "tflite", "onnx"]


def recipe_for(source: str, folder: Path) -> Recipe:
    """What init makes of the original's file without being told the model, with a small run."""
    make, task = SOURCES[source]
    write_images(folder / "data/train", 24)
    write_images(folder / "data/val", 4)
    if task == "features":
        for part in ("train", "val"):
            without_class_folders(folder / "data" / part)
    path = save(drawn(make()), folder / "original", {"torchvision": "dict", "siglip": "shards"}.get(source, "folder"))
    # torchvision's file has no config.json that tells the heads.
    args = {"num_heads": 4} if source == "torchvision" else {}
    model = ModelRecipe(args=args, checkpoint=str(path), task=task)
    found = wdp_edge.init(model, folder / "data", folder)
    assert found.why and found.args["embed_dim"] == 32
    small, own = recipe_of(folder, "60%", 0), load_recipe(folder / "wdp-edge.toml")
    select = replace(small.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=False, rounds=1)
    data = replace(small.data, train=own.data.train, val=own.data.val, preprocess=own.data.preprocess)
    return replace(small, model=own.model, data=data, prune=replace(small.prune, target="onnx", select=select))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[Callable[[str], PruneResult]]:
    """Of each source, run once where a test asks for it."""
    with fake_clock(tables):
        yield cache(lambda source: prune(recipe_for(source, tmp_path_factory.mktemp(source))))


@pytest.mark.parametrize("source", SOURCES)
def test_weights_of_another_library_become_a_verified_file(source: str, results: Callable[[str], PruneResult]) -> None:
    result = results(source)
    assert result.verified and result.budget.met and result.shipped.macs < result.dense.macs


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_the_same_run_is_exported_to_all_targets(source: str, results: Callable[[str], PruneResult]) -> None:
    made = export(results(source).run, ALL, ["fp32"])
    assert made.verified and [a.target for a in made.artifacts] == ALL
