"""Where the runs of several budgets are, and the file that keeps them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wdp_edge.config.recipe import ModelRecipe, PruneRecipe, Recipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as
from wdp_edge.runs.run import run_path
from wdp_edge.runs.stages import MANIFEST
from wdp_edge.runs.sweeps import SWEEP, Member, Sweep, origin_of, read_sweep, single_recipes, sweep_path, write_sweep

RECIPE = Recipe(model=ModelRecipe("vit_tiny_patch16_224"), prune=PruneRecipe(latency_budget="30%, 0.5 s,20ms"))


def test_each_budget_has_the_run_that_it_would_have_alone() -> None:
    alone = [run_path(replace(RECIPE, prune=PruneRecipe(latency_budget=text))) for text in ("30%", "0.5 s", "20ms")]
    assert [run_path(one) for one in single_recipes(RECIPE)] == alone
    assert sweep_path(RECIPE).parent == alone[0].parent
    other = replace(RECIPE, prune=PruneRecipe(latency_budget="40%"))
    assert sweep_path(other) == sweep_path(RECIPE), "further budgets join"


def test_a_folder_that_was_named_holds_them_all() -> None:
    recipe = replace(RECIPE, prune=replace(RECIPE.prune, out="somewhere"))
    assert sweep_path(recipe) == Path("somewhere")
    assert [str(run_path(one)) for one in single_recipes(recipe)] == [
        "somewhere/30pct-executorch",
        "somewhere/0.5s-executorch",
        "somewhere/20ms-executorch",
    ]


def test_every_target_and_device_has_a_run_of_its_own() -> None:
    own = PruneRecipe(latency_budget="30%,50%", target="onnx, tflite", device="local,ssh:me@pi", out="all")
    runs = [str(run_path(one)) for one in single_recipes(replace(RECIPE, prune=own))]
    assert runs[:4] == ["all/30pct-onnx", "all/50pct-onnx", "all/30pct-onnx-ssh_me_pi", "all/50pct-onnx-ssh_me_pi"]
    assert len(set(runs)) == 8
    elsewhere = replace(RECIPE, prune=PruneRecipe(latency_budget="30%", target="onnx", device="qemu:cortex-a76"))
    assert sweep_path(elsewhere) == sweep_path(RECIPE), "further targets and devices join"


def test_members_join_and_are_replaced(tmp_path: Path) -> None:
    write_sweep(tmp_path, "a", [Member("30%", "30pct", "too small"), Member("50%", "../x-50pct")])
    write_sweep(tmp_path, "a", [Member("30%", "30pct"), Member("70%", "70pct")])
    known = read_as(tmp_path / SWEEP, Sweep).members
    assert known == (Member("50%", "../x-50pct"), Member("30%", "30pct"), Member("70%", "70pct"))
    with pytest.raises(InputError, match="there and finished"):
        read_sweep(tmp_path)
    with pytest.raises(InputError, match="another recipe or checkpoint"):
        write_sweep(tmp_path, "b", [Member("90%", "90pct")])


@pytest.mark.parametrize("run", ["/etc", "../../x", "a/b", "..", ".", "", "../", "../../", "a\n", "../.."])
def test_a_damaged_file_leads_nowhere_else(tmp_path: Path, run: str) -> None:
    write_json(tmp_path / SWEEP, {"version": 1, "origin": "a", "members": [{"budget": "30%", "run": run, "error": ""}]})
    with pytest.raises(InputError, match="inside or beside it"):
        read_sweep(tmp_path)


def test_the_folder_of_a_run_is_not_taken_for_several(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, {})
    with pytest.raises(InputError, match="single budget"):
        write_sweep(tmp_path, "a", [Member("30%", "30pct")])


def test_a_run_stands_once(tmp_path: Path) -> None:
    twice = [{"budget": budget, "run": "a"} for budget in ("30%", "50%")]
    write_json(tmp_path / SWEEP, {"version": 1, "origin": "a", "members": twice})
    with pytest.raises(InputError, match="each run once"):
        read_sweep(tmp_path)


def test_budgets_are_of_one_recipe_and_one_checkpoint(tmp_path: Path) -> None:
    weights = tmp_path / "dense.safetensors"
    weights.write_bytes(b"one")
    recipe = replace(RECIPE, model=replace(RECIPE.model, checkpoint=str(weights)))
    origin = origin_of(recipe)
    assert origin_of(replace(recipe, prune=replace(recipe.prune, latency_budget="40%"))) == origin
    assert origin_of(replace(recipe, prune=replace(recipe.prune, seed=1))) != origin
    weights.write_bytes(b"two")
    assert origin_of(recipe) != origin
