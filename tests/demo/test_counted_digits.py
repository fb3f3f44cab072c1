"""A sweep of counted budgets on the demo's handwritten digits, with a small model trained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fake_clock_run import fake_clock

import wdp_edge
from wdp_edge.commands.init import RECIPE_FILE, init
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.folder import scan
from wdp_edge.demo.digits import write_digits
from wdp_edge.demo.train import TrainOptions, train_dense
from wdp_edge.models.spec import ModelSpec

SMALL = ModelSpec(
    "vit_tiny_patch16_224", 10, {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3}
)


def test_counted_budgets_keep_what_a_model_knows_of_digits(tmp_path: Path, tables: Path) -> None:
    """On a FAKE clock, which decides nothing: structures follow from counts. Nothing is trained after the cut."""
    write_digits(tmp_path / "digits")
    folders = scan(tmp_path / "digits/train"), scan(tmp_path / "digits/val")
    trained = train_dense(*folders, tmp_path / "dense.safetensors", SMALL, TrainOptions(steps=150, lr=3e-3))
    init(ModelRecipe(SMALL.name, SMALL.args, 10, str(trained.checkpoint)), tmp_path / "digits", tmp_path)
    recipe = absolute_paths(load_recipe(tmp_path / RECIPE_FILE))
    own = replace(recipe.prune, macs_budget="75%,50%", images=0, target="onnx", out=str(tmp_path / "runs"))
    with fake_clock(tables):
        found = wdp_edge.sweep(replace(recipe, prune=own))
    half, more = found.results
    counts = [r.budget.counted.count if r.budget.counted else None for r in (half, more)]
    assert found.met and counts == [half.shipped.macs, more.shipped.macs]
    assert 0.4 * half.dense.macs < half.shipped.macs <= 0.5 * half.dense.macs < more.shipped.macs
    assert half.verified and more.verified
    # 355 images: one standard error of such an accuracy is 2 points. Guessing gives 10 %.
    assert half.dense.accuracy > 0.7 and more.shipped.accuracy > half.dense.accuracy - 0.1
    assert half.shipped.accuracy > 0.5
