"""The recipe that a run stores is the run's own, wherever it is read from."""

from dataclasses import replace
from pathlib import Path

import pytest

from wdp_edge.errors import InputError
from wdp_edge.places import run_recipe
from wdp_edge.recipe import Recipe
from wdp_edge.recipe_file import load_recipe, merge
from wdp_edge.run import Run, run_path
from wdp_edge.stages import RECIPE

TEXT = """
[model]
name = "vit_tiny_patch16_224"
args = { img_size = 32 }
checkpoint = "dense.pt"
[data]
train = "digits/train"
val = "/somewhere/val"
"""


def test_the_stored_recipe_opens_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wdp-edge.toml").write_text(TEXT)
    recipe = load_recipe("wdp-edge.toml")
    with Run(run_path(recipe), recipe) as run:
        pass
    stored = run_recipe(run.path)
    assert Path(stored.data.train) == Path("digits/train") and str(tmp_path) not in (run.path / RECIPE).read_text()
    assert stored.data.val == "/somewhere/val"
    with Run(run.path, stored):
        pass
    for elsewhere in ({}, {"prune.compute.micro_batch_size": 8, "prune.compute.device": "cpu"}):
        with Run(run.path, merge(recipe, elsewhere)):
            pass
    for other in ({"prune.seed": 1}, {"model.task": "retrieve"}):
        with pytest.raises(InputError, match="another recipe"), Run(run.path, merge(recipe, other)):
            pass


def test_whole_numbers_given_from_python_are_the_same_settings(tmp_path: Path) -> None:
    recipe = merge(load_recipe_text(tmp_path), {"prune.learn.checkpoint_seconds": 0})
    whole = replace(recipe, prune=replace(recipe.prune, learn=replace(recipe.prune.learn, checkpoint_seconds=0)))
    with Run(tmp_path / "run", whole):
        pass
    with Run(tmp_path / "run", load_recipe(tmp_path / "run" / RECIPE)):
        pass


def load_recipe_text(folder: Path) -> Recipe:
    (folder / "wdp-edge.toml").write_text(TEXT)
    return load_recipe(folder / "wdp-edge.toml")
