"""A project that was renamed or copied, with finished and unfinished runs in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_clock_run import fake_clock, recipe_of
from tiny_project import small_project

from wdp_edge.commands.check import check
from wdp_edge.commands.evaluate import evaluate
from wdp_edge.commands.export import export
from wdp_edge.commands.inspect import inspect
from wdp_edge.commands.profile import profile
from wdp_edge.commands.source import dense_run
from wdp_edge.commands.verify import verify
from wdp_edge.config.file import absolute_paths, dump_recipe, load_recipe
from wdp_edge.config.recipe import BudgetRecipe, Recipe
from wdp_edge.errors import InputError
from wdp_edge.io.files import read_json, write_json, write_text
from wdp_edge.models.files import load
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runs.places import read_result, run_recipe
from wdp_edge.runs.run import recipe_digest
from wdp_edge.runs.stages import MANIFEST, RECIPE, RESULT


def write_project(folder: Path) -> None:
    recipe = recipe_of(Path(), target="onnx", images=0)
    write_text(folder / "wdp-edge.toml", dump_recipe(replace(recipe, prune=replace(recipe.prune, out="")), False))


def here() -> Recipe:
    return load_recipe(Path("wdp-edge.toml"))


@pytest.fixture(scope="module")
def cache(tables: Path) -> Iterator[None]:
    with fake_clock(tables):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: None) -> Path:
    """A project with a finished run."""
    folder = small_project(tmp_path_factory.mktemp("made"))
    write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prune(here())
    return folder


@pytest.fixture
def moved(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project under another name; the one it had leads nowhere."""
    shutil.copytree(made, tmp_path / "new")
    made.rename(made.with_name("away"))
    monkeypatch.chdir(tmp_path / "new")
    yield tmp_path / "new"
    made.with_name("away").rename(made)


@pytest.fixture
def copied(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def the_run() -> Path:
    (run,) = Path("runs").iterdir()
    return run


def test_every_command_goes_on_where_the_project_is_now(moved: Path) -> None:
    run = the_run()
    before = (run / RESULT).read_bytes()
    result = prune(here())
    assert the_run() == run == result.run and (run / RESULT).read_bytes() == before
    assert result.shipped.path is not None and result.shipped.path.exists()
    assert evaluate(result.shipped.path).accuracy == result.shipped.accuracy
    assert export(run, targets=["onnx"], precisions=["fp32"]).verified
    assert verify(run).verified
    assert check(run, [BudgetRecipe(target="onnx", precision="fp32", size="10MB", accuracy_drop=100.0)]).met
    assert profile(run).dense_latency_ms is not None
    assert inspect(result.shipped.path).target == "onnx"
    assert str(moved) not in (run / RECIPE).read_text() and report(run).path.exists()


def test_an_unfinished_run_goes_on_with_what_was_done(moved: Path) -> None:
    run = the_run()
    weights = (run / "model" / "model.safetensors").read_bytes()
    shipped = read_result(run).shipped.path
    manifest = read_json(run / MANIFEST)
    manifest.pop("finished")
    write_json(run / MANIFEST, manifest)
    for gone in ("result.json", "stages/final.json", "stages/verify.json", "stages/measure.json"):
        (run / gone).unlink()
    kept = {p.name: p.stat().st_mtime_ns for p in (run / "stages").glob("*.json")}
    result = prune(here())
    assert the_run() == run and (run / "model" / "model.safetensors").read_bytes() == weights
    assert {name: (run / "stages" / name).stat().st_mtime_ns for name in kept if name != "calibration.json"} == {
        name: time for name, time in kept.items() if name != "calibration.json"
    }
    assert result.shipped.path == shipped and result.shipped.accuracy is not None


def test_a_copy_uses_its_own_images_and_files(copied: Path, made: Path) -> None:
    run = the_run()
    recipe = run_recipe(run)
    assert Path(recipe.data.val).absolute() == copied / "data/val"
    assert Path(recipe.model.checkpoint).absolute() == copied / "dense.safetensors"
    for extra in ("blue", "red"):
        shutil.copy(copied / "data/val" / extra / "000.png", copied / "data/val" / extra / "more.png")
    assert evaluate(run / "artifacts" / "model.onnx").images == 14
    with pytest.raises(InputError, match="val images have changed"):
        verify(run)  # it is another folder, and not what the run began with
    with pytest.raises(InputError, match="val images have changed"):
        prune(here())
    assert evaluate(made / "runs" / run.name / "artifacts" / "model.onnx").images == 12


def test_a_run_that_left_its_project_finds_it_where_it_was(made: Path, tmp_path: Path) -> None:
    name = next((made / "runs").iterdir()).name
    shutil.copytree(made / "runs" / name, tmp_path / "taken")
    assert run_recipe(tmp_path / "taken").data.train == str(made / "data/train")
    assert evaluate(tmp_path / "taken" / "artifacts" / "model.onnx").images == 12


def test_a_run_in_another_project_is_not_held_against_that_ones_images(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_project(tmp_path))
    shutil.copytree(made / "runs", "runs")
    (tmp_path / "data/train/red/000.png").unlink()
    with pytest.raises(InputError, match="train images have changed"):
        verify(the_run())


def test_images_that_are_gone_are_named_with_the_file_that_names_them(moved: Path) -> None:
    (moved / "data/val").rename(moved / "data/elsewhere")
    run = the_run()
    with pytest.raises(InputError, match=r"validation images there\. .*val in \[data\] of runs/.*recipe\.toml"):
        export(run)
    with pytest.raises(InputError) as said:
        evaluate(run / "artifacts" / "model.onnx")
    assert "--val" in said.value.hint_for({"--val"}) and "--val" not in said.value.hint
    write_text(run / RECIPE, (run / RECIPE).read_text().replace("data/val", "data/elsewhere"))
    assert verify(run).verified


def test_a_run_of_before_is_read_where_it_is(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As older versions wrote it: absolute paths in its recipe, a digest over these, and its name with that."""
    shutil.copytree(made, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    recipe, run = here(), the_run()
    digest = _digest_of_before(recipe)
    older = run.rename(run.with_name(run.name.replace(recipe_digest(recipe)[:6], digest[:6])))
    assert older != run
    manifest = {k: v for k, v in read_json(older / MANIFEST).items() if k not in ("settings_digest", "places")}
    for part in manifest["data"].values():
        part.pop("contents")
    write_json(older / MANIFEST, {**manifest, "recipe_digest": digest})
    write_text(older / RECIPE, dump_recipe(absolute_paths(recipe), comments=False))
    assert verify(older).verified
    assert prune(recipe).run == older and the_run() == older
    assert str(tmp_path) not in (older / RECIPE).read_text(), "and can be moved from now on"
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    assert verify(the_run()).verified


def _digest_of_before(recipe: Recipe) -> str:
    """Paths were absolute, and all else the same."""
    return recipe_digest(absolute_paths(recipe), Path("/nowhere"))


def test_a_dense_run_and_lists_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    small_project(folder)
    monkeypatch.chdir(folder)
    write_project(folder)
    for part in ("train", "val"):
        rows = [f"{part}/{p.parent.name}/{p.name},{p.parent.name}" for p in sorted(Path("data", part).glob("*/*"))]
        write_text(Path("data") / f"{part}.csv", "path,label\n" + "\n".join(rows) + "\n")
    text = Path("wdp-edge.toml").read_text()
    write_text(
        Path("wdp-edge.toml"), text.replace('data/train"', 'data/train.csv"').replace('data/val"', 'data/val.csv"')
    )
    run = dense_run(here())
    folder.rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    assert dense_run(here()) == run
    found = export(run, targets=["onnx"], precisions=["fp32"])
    assert found.verified and evaluate(found.artifacts[0].path).images == 12
    assert verify(run).verified and load(run / "model") is not None
