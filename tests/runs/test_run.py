"""wdp_edge/runs/run.py: a run directory that goes on where it was, and is taken for no other run."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from wdp_edge.config.file import load_recipe, merge
from wdp_edge.config.recipe import ModelRecipe, PruneRecipe, Recipe
from wdp_edge.errors import InputError, SetupError
from wdp_edge.runs.places import run_recipe
from wdp_edge.runs.run import Run, check_checkpoint, checkpoint_facts, finished_run, latest_run, recipe_digest, run_path
from wdp_edge.runs.stages import RECIPE as RECIPE_FILE

PROJECT = """
[model]
name = "vit_tiny_patch16_224"
args = { img_size = 32 }
checkpoint = "dense.pt"
[data]
train = "digits/train"
val = "/somewhere/val"
"""
RECIPE = Recipe(model=ModelRecipe(name="vit_tiny_patch16_224"), prune=PruneRecipe(latency_budget="50%"))


@dataclass(frozen=True)
class Figure:
    value: int


def test_a_stage_is_computed_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> Figure:
        calls.append(1)
        return Figure(7)

    for _ in range(2):
        with Run(tmp_path / "run", RECIPE) as run:
            assert run.stage("figure", Figure, compute) == Figure(7)
    assert len(calls) == 1


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Figure:
        raise RuntimeError("power cut")

    with Run(tmp_path / "run", RECIPE) as run:
        with pytest.raises(RuntimeError):
            run.stage("figure", Figure, fail)
        assert not run.done("figure")


def test_another_recipe_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    with Run(tmp_path / "run", RECIPE):
        pass
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    other = replace(RECIPE, prune=replace(RECIPE.prune, seed=1))
    with pytest.raises(InputError, match="another recipe"), Run(tmp_path / "run", other):
        pass
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"meow")
    with pytest.raises(InputError, match="not a run folder"), Run(tmp_path / "photos", RECIPE):
        pass
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def hold(path: Path, ready: object, release: object) -> None:
    with Run(path, RECIPE):
        ready.set()  # type: ignore[attr-defined]
        release.wait(60)  # type: ignore[attr-defined]


def test_two_processes_do_not_share_a_run_and_a_killed_one_frees_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "run", ready, release))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(SetupError, match="Another process"), Run(tmp_path / "run", RECIPE):
            pass
    finally:
        process.kill()
        process.join()
    with Run(tmp_path / "run", RECIPE):
        pass


def test_half_written_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    with Run(tmp_path / "run", RECIPE):
        pass
    (tmp_path / "run" / "stages" / ".table.json.abc.tmp").write_text("{")
    with Run(tmp_path / "run", RECIPE):
        assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_run_killed_before_its_manifest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run" / "stages").mkdir(parents=True)
    (tmp_path / "run" / ".manifest.json.abc.tmp").write_text("{")
    with Run(tmp_path / "run", RECIPE) as run:
        assert run.manifest()["seed"] == 0


def test_the_digest_ignores_where_but_not_what() -> None:
    moved = replace(RECIPE, prune=replace(RECIPE.prune, out="elsewhere"), data=replace(RECIPE.data, workers=7))
    assert recipe_digest(moved) == recipe_digest(RECIPE)
    assert recipe_digest(replace(RECIPE, prune=replace(RECIPE.prune, images=1))) != recipe_digest(RECIPE)
    assert run_path(RECIPE).parts[0] == "runs" and "%" not in str(run_path(RECIPE))
    assert run_path(moved) == Path("elsewhere")


def test_latest_and_finished_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run"):
        latest_run(tmp_path)
    with Run(tmp_path / "runs" / "a", RECIPE):
        pass
    assert latest_run(tmp_path) == tmp_path / "runs" / "a"
    with pytest.raises(InputError, match="not finished"):
        finished_run(tmp_path / "runs" / "a")
    with pytest.raises(InputError, match="not a run folder"):
        finished_run(tmp_path)


def test_another_checkpoint_at_the_same_path_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    path.write_bytes(b"old weights")
    recipe = replace(RECIPE, model=replace(RECIPE.model, checkpoint=str(path)))
    with Run(tmp_path / "run", recipe) as run:
        check_checkpoint(recipe, run)  # a run of before says nothing of it
        run.update_manifest(**checkpoint_facts(recipe))
        check_checkpoint(recipe, run)
        path.write_bytes(b"new weights")
        with pytest.raises(InputError, match=r"best\.pth has changed since .*run began"):
            check_checkpoint(recipe, run)


def test_the_stored_recipe_opens_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wdp-edge.toml").write_text(PROJECT)
    recipe = load_recipe("wdp-edge.toml")
    with Run(run_path(recipe), recipe) as run:
        pass
    stored = run_recipe(run.path)
    assert Path(stored.data.train) == Path("digits/train") and str(tmp_path) not in (run.path / RECIPE_FILE).read_text()
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
    (tmp_path / "wdp-edge.toml").write_text(PROJECT)
    recipe = merge(load_recipe(tmp_path / "wdp-edge.toml"), {"prune.learn.checkpoint_seconds": 0})
    whole = replace(recipe, prune=replace(recipe.prune, learn=replace(recipe.prune.learn, checkpoint_seconds=0)))
    with Run(tmp_path / "run", whole):
        pass
    with Run(tmp_path / "run", load_recipe(tmp_path / "run" / RECIPE_FILE)):
        pass
