"""The recipe that a run stores is the run's own, wherever it is read from."""

from pathlib import Path

import pytest

from wdp_edge.errors import InputError
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
    stored = load_recipe(run.path / RECIPE)
    assert stored.data.train == str(tmp_path / "digits/train")
    assert stored.data.val == "/somewhere/val"
    with Run(run.path, stored):
        pass
    with Run(run.path, recipe):
        pass
    with pytest.raises(InputError, match="another recipe"), Run(run.path, merge(recipe, {"prune.seed": 1})):
        pass
