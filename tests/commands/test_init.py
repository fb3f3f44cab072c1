"""A project: what init writes, the recipe that a command works by, and the run that it means."""

import os
from pathlib import Path

import pytest
from tiny_project import ARGS, MODEL, small_project

from wdp_edge.commands.init import BUDGET, budget_settings, find_run, init, length_settings, project_recipe
from wdp_edge.config.file import load_recipe
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError
from wdp_edge.runs.stages import MANIFEST


def make_run(path: Path, age: float) -> Path:
    path.mkdir(parents=True)
    (path / MANIFEST).write_text("{}")
    os.utime(path / MANIFEST, (1e9 - age, 1e9 - age))
    return path


def test_the_latest_run_of_the_project(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/a", age=5)
    latest = make_run(tmp_path / "runs/b", age=1)
    make_run(tmp_path / "runs/c", age=9)
    assert find_run(tmp_path, None) == latest
    assert find_run(tmp_path, tmp_path / "runs/a") == tmp_path / "runs/a"


def test_the_run_that_the_recipe_names(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/a", age=1)
    mine = make_run(tmp_path / "mine", age=9)
    (tmp_path / "wdp-edge.toml").write_text("[prune]\nout = 'mine'\n")
    assert find_run(tmp_path, None) == mine


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no run"):
        find_run(tmp_path, None)


def test_no_run_here_is_said_without_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"There is no run in this folder\. .*--dense"):
        find_run(Path(), None)


def test_what_is_said_last_of_the_length_wins() -> None:
    assert length_settings(None, None) == {}
    assert length_settings(None, 500) == {"prune.images": 500, "prune.epochs": 0.0}
    assert length_settings(2.0, None) == {"prune.epochs": 2.0}
    assert length_settings(0.0, None) == {"prune.epochs": 0.0, "prune.images": 0}
    with pytest.raises(InputError, match="both say how long"):
        length_settings(1.0, 500)


def test_a_project_s_recipe_is_its_file_under_what_was_said(tmp_path: Path) -> None:
    (tmp_path / "wdp-edge.toml").write_text("[model]\nname = 'vit'\n[prune]\nthreads = 2\nseed = 5\n")
    recipe = project_recipe(tmp_path, {"prune.seed": 7}, {}, ("model.name",))
    assert (recipe.model.name, recipe.prune.threads, recipe.prune.seed) == ("vit", 2, 7)
    with pytest.raises(InputError, match="There is no budget"):
        project_recipe(tmp_path, {}, {}, ("model.name", BUDGET))
    assert project_recipe(tmp_path, {"prune.keep": "0.7"}, {}, ("model.name", BUDGET)).prune.keep == "0.7"


def test_a_budget_wins_over_one_of_another_kind() -> None:
    assert budget_settings({"prune.seed": 7}) == {}
    assert budget_settings({"prune.macs_budget": "50%", "prune.seed": 7}) == {
        "prune.latency_budget": "",
        "prune.macs_budget": "50%",
        "prune.keep": "",
    }
    with pytest.raises(InputError, match="--latency-budget and --keep are budgets"):
        budget_settings({"prune.latency_budget": "50%", "prune.keep": "0.7"})


def test_init_writes_what_it_found_relative_to_the_project(tmp_path: Path) -> None:
    small_project(tmp_path)
    model = ModelRecipe(MODEL, ARGS, 0, str(tmp_path / "dense.safetensors"))
    found = init(model, tmp_path / "data", tmp_path)
    assert (found.num_classes, found.train_images, found.val_images) == (3, 72, 12)
    written = load_recipe(found.path)
    assert written.model.num_classes == 3 and Path(written.data.train) == tmp_path / "data/train"
    with pytest.raises(InputError, match="exists"):
        init(model, tmp_path / "data", tmp_path)
