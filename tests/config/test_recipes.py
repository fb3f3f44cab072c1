"""Every recipe loads, names a model that can be pruned, and learns and recovers for two steps with a tiny one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_families import SCALED, SMALL, STAGES

from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.recovery import Recovery, RecoveryPlan
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.task import Labels, Output, facts_of
from wdp_edge.pruning.inputs import Inputs

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
TINY: dict[str, dict[str, Any]] = {"deit": SMALL, "vit": SCALED, "swin": STAGES}
CLASSES = 3
LAYOUTS = {Labels.MANY: ("lists", ".csv"), Labels.MASK: ("pairs", "")}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of images in class folders, in lists, and with masks."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 4)):
        rows = ["path,label"]
        for name in "abc":
            for number in range(count):
                picture = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
                for folder in (f"folders/{part}/{name}", f"lists/{part}", f"pairs/{part}/images"):
                    (root / folder).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture).save(root / folder / f"{name}{number}.png")
                mask = root / f"pairs/{part}/masks/{name}{number}.png"
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture[..., 0] % CLASSES).save(mask)
                rows.append(f"{part}/{name}{number}.png,{name};{'abc'[number % 3]}")
        (root / f"lists/{part}.csv").write_text("\n".join(rows))
    return root


def tiny(recipe: Recipe, images: Path, folder: Path) -> Recipe:
    """The recipe with a tiny model of its family, random weights, and real but tiny files."""
    args = TINY[recipe.model.name.split("_")[0]]
    facts = facts_of(recipe.model.task)
    classes = CLASSES if facts.output.of_classes else 0
    model = replace(recipe.model, args=args, num_classes=classes, checkpoint=str(folder / "dense.safetensors"))
    torch.manual_seed(0)
    spec = ModelSpec.of(model)
    plain = replace(spec, output=Output.EMBEDDING) if spec.output is Output.UNIT else spec
    save_file(create(plain).state_dict(), model.checkpoint)
    layout, suffix = LAYOUTS.get(facts.labels, ("folders", ""))
    train, val = (images / layout / f"{part}{suffix}" for part in ("train", "val"))
    data = replace(recipe.data, train=str(train), val=str(val), holdout_images=3, workers=0)
    return replace(recipe, model=model, data=data, prune=replace(recipe.prune, device="local"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_two_steps_of_learning_and_recovery(path: Path, images: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    assert Path(recipe.model.checkpoint).suffix == ".safetensors"
    inputs = Inputs.of(tiny(recipe, images, tmp_path))
    inputs.check_prunable()
    options, structure, dense = inputs.recipe.prune, inputs.model.structure, inputs.model.module
    masks = Masks(
        structure,
        [[i / b.heads for i in range(b.heads)] for b in structure.blocks],
        [[i / b.hidden for i in range(b.hidden)] for b in structure.blocks],
        Alignment(1, inputs.tools.target.mlp_width_multiple),
    )
    cost, task = CostModel([(1, 0.1), (4, 0.4)], [(8, 0.05), (128, 0.8)], 0.2), recipe.model.task
    learn = replace(options.learn, batch_size=4)
    search = Search(dense, masks, SearchGoal(cost, 5.0, 2.5, 2, task=task), learn)
    for batch in inputs.data.stream(4, first=0).batches(0, 2):
        assert np.isfinite(search.step(*batch)["loss"])
    halves = structure.with_widths(
        [max(1, b.heads // 2) for b in structure.blocks], [b.hidden // 2 for b in structure.blocks]
    )
    small, plan = cut(dense, Kept.first(halves)), RecoveryPlan(2, task=task)
    recovery = Recovery(dense, small, plan, replace(options.recover, batch_size=4))
    for batch in inputs.data.stream(4, first=1).batches(0, 2):
        assert np.isfinite(recovery.step(*batch)["loss"])
    assert structure_of(recovery.student) == halves


def test_every_recipe_is_in_the_table_and_names_a_model_of_timm() -> None:
    import timm

    text = (RECIPES[0].parent / "README.md").read_text()
    for path in RECIPES:
        assert path.name in text
        assert timm.is_model(load_recipe(path).model.name)
