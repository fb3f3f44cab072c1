"""Features and retrieval through the whole loop: a tiny real ViT, real images, real files; times by a fake clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_clock_run import fake_clock, recipe_of
from test_resume import small_project

import wdp_edge
import wdp_edge.pipeline.context as context_module
from wdp_edge.errors import InputError
from wdp_edge.pipeline.check import check
from wdp_edge.pipeline.evaluate import evaluate
from wdp_edge.pipeline.export import export
from wdp_edge.pipeline.inspect import inspect
from wdp_edge.pipeline.prune import prune
from wdp_edge.pipeline.verify import verify
from wdp_edge.plain import read_as
from wdp_edge.recipe import BudgetRecipe, Recipe
from wdp_edge.report import report
from wdp_edge.results import PruneResult
from wdp_edge.stages import Recovered, Verified


def recipe_for(task: str, folder: Path, images: int) -> Recipe:
    recipe = recipe_of(small_project(folder), "60%", images)
    if task == "features":
        for part in ("train", "val"):
            without_class_folders(folder / "data" / part)
    model = replace(recipe.model, task=task, num_classes=0)
    # Few files: what is tried besides does not depend on the task.
    select = replace(recipe.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=task == "features", rounds=1)
    return replace(recipe, model=model, prune=replace(recipe.prune, target="onnx", select=select))


def without_class_folders(root: Path) -> None:
    for image in sorted(root.rglob("*.png")):
        image.rename(root / f"{image.parent.name}-{image.name}")
    for empty in [path for path in root.iterdir() if path.is_dir()]:
        empty.rmdir()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Any:
    """The results by task: features without training, retrieval with it."""
    with fake_clock(tables):
        yield {
            task: prune(recipe_for(task, tmp_path_factory.mktemp(task), images))
            for task, images in (("features", 0), ("retrieve", 160))
        }


def outputs(result: PruneResult, images: int = 5) -> torch.Tensor:
    model = wdp_edge.load(result.run / "model")
    with torch.no_grad():
        return model(torch.randn(images, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("task", ["features", "retrieve"])
def test_the_file_is_the_model_within_its_budget(task: str, runs: dict[str, PruneResult]) -> None:
    result = runs[task]
    assert result.task == task and result.verified and result.budget.met
    assert result.shipped.macs < result.dense.macs
    for parity in read_as(result.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4 and parity.agreement == 1.0
    assert outputs(result).shape == (5, 32)


def test_features_are_held_against_the_dense_ones(runs: dict[str, PruneResult]) -> None:
    result = runs["features"]
    assert result.metric == "mean cosine" and result.dense.accuracy == pytest.approx(1.0)
    assert result.shipped.accuracy is not None and 0.9 < result.shipped.accuracy < 1.0
    assert outputs(result).norm(dim=-1).std() > 0
    assert result.shipped.path is not None
    with pytest.raises(InputError, match="mean cosine is with the dense model's outputs"):
        evaluate(result.shipped.path)


def test_retrieval_puts_out_lengths_of_one_and_counts_neighbours(runs: dict[str, PruneResult]) -> None:
    result = runs["retrieve"]
    assert torch.allclose(outputs(result).norm(dim=-1), torch.ones(5), atol=1e-5)
    assert result.metric == "Recall@1" and result.shipped.also is not None and result.dense.also is not None
    assert set(result.shipped.also) == set(result.dense.also) == {"Recall@5", "mAP"}
    assert result.shipped.path is not None
    again = evaluate(result.shipped.path)
    assert (again.metric, again.accuracy, again.also) == ("Recall@1", result.shipped.accuracy, result.shipped.also)
    curve = read_as(result.run / "stages" / "recover.json", Recovered).curve
    assert all(0 <= p.values["holdout_accuracy"] <= 1 for p in curve if "holdout_accuracy" in p.values) and curve


@pytest.mark.parametrize("task", ["features", "retrieve"])
def test_every_command_knows_the_task(task: str, runs: dict[str, PruneResult]) -> None:
    result = runs[task]
    exported = export(result.run, precisions=["int8-dynamic"])
    assert exported.metric == result.metric and 0 <= exported.artifacts[0].accuracy <= 1
    about = inspect(exported.artifacts[0].path).about
    assert (about["task"], about["classes"]) == (task, [])
    verified = verify(result.run)
    assert (verified.task, verified.metric) == (task, result.metric)
    assert verified.shrunk is not None and 0 <= verified.shrunk.agreement <= 1
    if task == "features":
        assert verified.dense_accuracy == pytest.approx(1.0) and verified.shrunk_accuracy > 0.9
    budget = BudgetRecipe(target="onnx", precision="fp32", accuracy_drop=50.0, max_class_drop=50.0)
    checked = check(result.run, [budget])
    assert result.drops is not None and checked.budgets[0].drops is not None
    assert [part.name for part in checked.budgets[0].drops.known] == [part.name for part in result.drops.known]
    assert checked.metric == result.metric
    assert result.dense.accuracy is not None and result.shipped.accuracy is not None
    lost = 100 * (result.dense.accuracy - result.shipped.accuracy)
    assert checked.budgets[0].limits[0].measured == pytest.approx(lost, abs=1e-3)
    page = report(result.run).path.read_text()
    assert ("Mean cosine" if task == "features" else "mAP") in page and "top-1" not in page


@pytest.mark.slow
def test_a_precision_is_chosen_by_the_task_s_metric(runs: dict[str, PruneResult]) -> None:
    found = export(runs["features"].run, precisions=["auto"], accuracy_drop=5.0)
    assert found.metric == "mean cosine" and found.tried
    fp32 = next((t for t in found.tried if t.precision == "fp32"), None)
    assert all(t.accuracy <= 1 for t in found.tried)
    assert fp32 is None or fp32.drop == 0.0


@pytest.mark.parametrize(
    ("task", "classes", "says"),
    [
        ("classify", 0, "number of classes is not set"),
        ("features", 3, "has no classes, not 3"),
        ("retrieve", 3, "has no classes, not 3"),
    ],
)
def test_the_number_of_classes_must_fit_the_task(task: str, classes: int, says: str, tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path))
    with pytest.raises(InputError, match=says):
        context_module.Context(replace(recipe, model=replace(recipe.model, task=task, num_classes=classes)))


def test_retrieval_needs_class_folders_but_not_the_same_ones(tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path))
    recipe = replace(recipe, model=replace(recipe.model, task="retrieve", num_classes=0))
    (tmp_path / "data/val/red").rename(tmp_path / "data/val/unseen")
    assert context_module.Context(recipe).val.classes == ("blue", "green", "unseen")
    without_class_folders(tmp_path / "data/val")
    with pytest.raises(InputError, match="no class folders"):
        context_module.Context(recipe)
