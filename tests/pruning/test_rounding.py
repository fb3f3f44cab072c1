"""Recovery under an 8-bit precision's rounding: a whole run on a FAKE device, with a real int8 file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import fake_clock, recipe_of
from tiny_project import SMALLER, small_project

import wdp_edge
from wdp_edge.config.recipe import Recipe
from wdp_edge.errors import InputError
from wdp_edge.io.plain import read_as
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.run import recipe_digest
from wdp_edge.runs.stages import Recovered


@pytest.fixture(autouse=True)
def clock(tables: Path) -> Iterator[None]:
    with fake_clock(tables):
        yield


def recipe_for(folder: Path, precision: str, rounding: bool) -> Recipe:
    recipe = recipe_of(folder, "70%", images=240, target="onnx")
    model = replace(recipe.model, args={**recipe.model.args, **SMALLER})
    select = replace(recipe.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=False, rounds=1)
    recover = replace(recipe.prune.recover, rounding=rounding)
    learn, out = replace(recipe.prune.learn, share=0.0), str(folder / f"run-{rounding}")
    own = replace(recipe.prune, precision=precision, select=select, recover=recover, learn=learn, out=out)
    return replace(recipe, model=model, prune=own)


def test_a_run_recovers_under_the_file_s_rounding(tmp_path: Path) -> None:
    folder = small_project(tmp_path, **SMALLER)
    runs = [prune(recipe_for(folder, "int8-static", rounding)) for rounding in (False, True)]
    assert all(run.verified for run in runs)
    plain, rounded = (wdp_edge.load(run.run / "model").state_dict() for run in runs)
    assert plain.keys() == rounded.keys() and any(not torch.equal(plain[name], rounded[name]) for name in plain)
    features = [read_as(run.run / "stages" / "recover.json", Recovered).curve[0].values["features"] for run in runs]
    assert features[1] > features[0], "the first step sees what rounding does"


def test_a_precision_without_integers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fp32 files are not rounded.*"):
        prune(recipe_for(small_project(tmp_path, **SMALLER), "fp32", True))
    assert not (tmp_path / "run-True").exists()


def test_runs_of_before_go_on(tmp_path: Path) -> None:
    """A recipe without the setting has the digest that it had."""
    off, on = (recipe_for(tmp_path, "int8-static", rounding) for rounding in (False, True))
    assert recipe_digest(off) != recipe_digest(on)
