"""Tasks without labels, and retrieval, through the whole loop: a tiny real ViT, real files; times by a fake clock."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_clock_run import fake_clock, recipe_of
from tiny_project import SMALLER, small_project, without_class_folders

import wdp_edge
from wdp_edge.cli._print import show_prune
from wdp_edge.commands.check import check
from wdp_edge.commands.evaluate import evaluate
from wdp_edge.commands.export import export
from wdp_edge.commands.inspect import inspect
from wdp_edge.commands.verify import verify
from wdp_edge.config.recipe import BudgetRecipe, Recipe
from wdp_edge.errors import InputError
from wdp_edge.io.plain import read_as
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import Recovered, Verified


def recipe_for(task: str, folder: Path, images: int) -> Recipe:
    recipe = recipe_of(small_project(folder, **SMALLER), "60%", images)
    if task != "retrieve":
        for part in ("train", "val"):
            without_class_folders(folder / "data" / part)
    classes = 3 if task == "classify-unlabelled" else 0
    model = replace(recipe.model, task=task, num_classes=classes, args={**recipe.model.args, **SMALLER})
    # Few files: what is tried besides does not depend on the task.
    select = replace(recipe.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=task == "features", rounds=1)
    return replace(recipe, model=model, prune=replace(recipe.prune, target="onnx", select=select))


IMAGES = {"features": 0, "retrieve": 160, "classify-unlabelled": 160}


class Runs(dict[str, PruneResult]):
    """The results by task, each made when it is first asked for."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        super().__init__()
        self._factory = factory

    def __missing__(self, task: str) -> PruneResult:
        self[task] = prune(recipe_for(task, self._factory.mktemp(task), IMAGES[task]))
        return self[task]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Any:
    """Features without training, the others with it."""
    with fake_clock(tables):
        yield Runs(tmp_path_factory)


def outputs(result: PruneResult, images: int = 5) -> torch.Tensor:
    model = wdp_edge.load(result.run / "model")
    with torch.no_grad():
        return model(torch.randn(images, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("task", ["features", "retrieve", "classify-unlabelled"])
def test_the_file_is_the_model_within_its_budget(task: str, runs: dict[str, PruneResult]) -> None:
    result = runs[task]
    assert result.task == task and result.verified and result.budget.met
    assert result.shipped.macs < result.dense.macs
    for parity in read_as(result.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4 and parity.agreement == 1.0
    assert outputs(result).shape == (5, 3 if task == "classify-unlabelled" else 32)


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


def test_a_classifier_without_labels_is_held_against_the_dense_one(
    runs: dict[str, PruneResult], capsys: pytest.CaptureFixture[str]
) -> None:
    result = runs["classify-unlabelled"]
    assert (result.metric, result.dense.accuracy, result.dense.agreement) == ("agreement", 1.0, None)
    assert result.shipped.accuracy == result.shipped.agreement
    assert result.drops is not None and {part.name for part in result.drops.parts} <= {"0", "1", "2"}
    show_prune(result)
    said = capsys.readouterr().out
    assert "It is not accuracy" in said and said.count("top-1") == 1
    exported = export(result.run)
    assert exported.metric == "agreement" and inspect(exported.artifacts[0].path).about["classes"] == ["0", "1", "2"]
    verified = verify(result.run)
    assert verified.shrunk is not None and verified.dense_accuracy == 1.0
    assert verified.shrunk_accuracy == verified.shrunk.agreement
    (budget,) = check(result.run, [BudgetRecipe(target="onnx", precision="fp32", accuracy_drop=50.0)]).budgets
    assert budget.limits[0].measured == pytest.approx(100 * (1 - (result.shipped.accuracy or 0)))
    page = report(result.run).path.read_text()
    assert "Agreement with the dense model (top-1)" in page and "own answers" in page
    said_otherwise = re.sub("not accuracy|accuracy_drop|max_class_drop", "", page)
    assert not re.findall(".*accuracy.*", re.sub(r"# .*|&#.*", "", said_otherwise), re.IGNORECASE)


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
        ("features", 3, "num_classes is 3"),
        ("retrieve", 3, "num_classes is 3"),
    ],
)
def test_the_number_of_classes_must_fit_the_task(task: str, classes: int, says: str, tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path))
    with pytest.raises(InputError, match=says):
        Inputs.of(replace(recipe, model=replace(recipe.model, task=task, num_classes=classes)))


def test_retrieval_needs_class_folders_but_not_the_same_ones(tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path))
    recipe = replace(recipe, model=replace(recipe.model, task="retrieve", num_classes=0))
    (tmp_path / "data/val/red").rename(tmp_path / "data/val/unseen")
    assert Inputs.of(recipe).data.val.classes == ("blue", "green", "unseen")
    without_class_folders(tmp_path / "data/val")
    with pytest.raises(InputError, match="no class folders"):
        Inputs.of(recipe)
