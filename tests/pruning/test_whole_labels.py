"""Several labels per image, and a class for every pixel, through the whole loop: a tiny ViT, drawn images, real files.

FAKE: the device's times follow from file sizes (see fake_clock_run.py); everything else is real.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import shapes_project as shapes
import torch
from fake_clock_run import fake_clock, recipe_of
from PIL import Image
from safetensors.torch import save_file
from tiny_project import small_project
from tiny_vit import TINY, lively

import wdp_edge
from wdp_edge.artifacts.proof import close
from wdp_edge.commands.check import check
from wdp_edge.commands.evaluate import evaluate
from wdp_edge.commands.export import export
from wdp_edge.commands.inspect import inspect
from wdp_edge.commands.verify import verify
from wdp_edge.config.recipe import BudgetRecipe, Recipe, VerifyRecipe
from wdp_edge.errors import InputError
from wdp_edge.io.plain import read_as
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.pruning.first_look import Plausible
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import Recovered, Verified

COLOURS = {"blue": "cold", "green": "cold;bright", "red": "bright"}


def several_labels(folder: Path) -> Recipe:
    """The coloured squares as lists; some have no label."""
    recipe = recipe_of(small_project(folder), "60%", 160)
    for part in ("train", "val"):
        found = sorted((folder / "data" / part).rglob("*.png"))
        rows = [
            f"{p.relative_to(folder / 'data')},{COLOURS[p.parent.name] if i % 5 else ''}" for i, p in enumerate(found)
        ]
        (folder / "data" / f"{part}.csv").write_text("path,label\n" + "\n".join(rows))
    torch.manual_seed(0)
    save_file(create(ModelSpec(TINY.name, 2, TINY.args)).state_dict(), folder / "dense.safetensors")
    data = replace(recipe.data, train=str(folder / "data/train.csv"), val=str(folder / "data/val.csv"))
    return replace(recipe, model=replace(recipe.model, task="multilabel", num_classes=2), data=data)


def masks(folder: Path, head_channels: int = 0, head_blocks: str = "") -> Recipe:
    """Drawn shapes, a sixteenth of their size."""
    recipe = recipe_of(folder, "60%", 160)
    for seed, (part, count) in enumerate((("train", 60), ("val", 12))):
        shapes.write_pairs(folder / "data" / part, count, seed)
    torch.manual_seed(0)
    classes = len(shapes.CLASSES)
    model = replace(recipe.model, task="segment", num_classes=classes)
    model = replace(model, head_channels=head_channels, head_blocks=head_blocks)
    save_file(lively(create(ModelSpec.of(model))).state_dict(), folder / "dense.safetensors")
    return replace(recipe, model=model)


OF_SEVERAL = "segment with a convolutional head of two blocks"
MAKERS = {
    "multilabel": several_labels,
    "segment": masks,
    OF_SEVERAL: partial(masks, head_channels=8, head_blocks="1,3"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with fake_clock(tmp_path_factory.mktemp("cache")):
        found = {}
        for name, make in MAKERS.items():
            recipe = make(tmp_path_factory.mktemp("project"))
            # Few files: what is tried besides does not depend on the task.
            select = replace(recipe.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=False, rounds=1)
            found[name] = prune(replace(recipe, prune=replace(recipe.prune, target="onnx", select=select)))
        yield found


OF_MAPS = "mIoU", {"pixel accuracy"}
METRICS = {"multilabel": ("mAP", {"F1"}), "segment": OF_MAPS, OF_SEVERAL: OF_MAPS}
MAP = (5, len(shapes.CLASSES), 4, 4)
SHAPES = {"multilabel": (5, 2), "segment": MAP, OF_SEVERAL: MAP}


@pytest.mark.slow
@pytest.mark.parametrize("task", METRICS)
def test_the_file_is_the_model_within_its_budget(task: str, runs: dict[str, PruneResult]) -> None:
    result = runs[task]
    assert result.verified and result.budget.met and result.shipped.macs < result.dense.macs
    for parity in read_as(result.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4 and parity.agreement == 1.0
    model = wdp_edge.load(result.run / "model")
    with torch.no_grad():
        assert model(torch.randn(5, 3, 16, 16)).shape == SHAPES[task]
    # Whatever is said of random weights is said in the result.
    said = read_as(result.run / "stages" / "plausible.json", Plausible)
    assert (result.warnings, result.first_look) == (said.warnings, said.look) and said.look is not None
    curve = read_as(result.run / "stages" / "recover.json", Recovered).curve
    assert any("holdout_accuracy" in point.values for point in curve)


@pytest.mark.slow
@pytest.mark.parametrize("task", METRICS)
def test_every_command_knows_the_task(task: str, runs: dict[str, PruneResult]) -> None:
    result, (metric, others) = runs[task], METRICS[task]
    assert result.task == task.split()[0] and result.metric == metric
    assert result.shipped.also is not None and set(result.shipped.also) == others
    assert result.shipped.path is not None and result.dense.accuracy is not None and result.shipped.accuracy is not None
    again = evaluate(result.shipped.path)
    assert (again.metric, again.also) == (metric, result.shipped.also)
    assert again.accuracy == pytest.approx(result.shipped.accuracy, abs=1e-6)
    exported = export(result.run, precisions=["int8-dynamic"])
    assert exported.metric == metric and exported.artifacts[0].parity.simulated_error is not None
    assert close(exported.artifacts[0].parity, VerifyRecipe().int8)
    about = inspect(exported.artifacts[0].path).about
    assert about["task"] == result.task and len(about["classes"]) == SHAPES[task][1]
    verified = verify(result.run)
    assert verified.metric == metric and verified.shrunk is not None
    budget = BudgetRecipe(target="onnx", precision="fp32", accuracy_drop=50.0, max_class_drop=90.0)
    checked = check(result.run, [budget])
    drops = checked.budgets[0].drops
    assert result.drops is not None and drops is not None and checked.budgets[0].limits[1].met
    assert [(part.name, part.images) for part in drops.parts] == [(p.name, p.images) for p in result.drops.parts]
    assert drops.overall.points == pytest.approx(result.drops.overall.points, abs=1e-3)
    lost = 100 * (result.dense.accuracy - result.shipped.accuracy)
    assert checked.budgets[0].limits[0].measured == pytest.approx(lost, abs=1e-3)
    page = report(result.run).path.read_text()
    assert metric in page and "top-1" not in page


@pytest.mark.slow
@pytest.mark.parametrize("task", METRICS)
def test_a_precision_is_chosen_by_the_task_s_metric(task: str, runs: dict[str, PruneResult]) -> None:
    found = export(runs[task].run, precisions=["auto"], accuracy_drop=20.0)
    assert found.metric == METRICS[task][0] and found.tried


def test_classes_must_fit_the_labels(tmp_path: Path) -> None:
    recipe = several_labels(tmp_path)
    assert Inputs.of(recipe).data.class_names == ("bright", "cold")
    with pytest.raises(InputError, match="holds 2 classes, the model has 3"):
        Inputs.of(replace(recipe, model=replace(recipe.model, num_classes=3), data=_models(recipe, 3)))
    with pytest.raises(InputError, match="cannot say that an image shows several"):
        Inputs.of(replace(recipe, data=replace(recipe.data, train=str(tmp_path / "data/train"))))


def _models(recipe: Recipe, classes: int) -> Any:
    """Puts a checkpoint of so many classes in the place of the recipe's; returns its data."""
    save_file(create(ModelSpec(TINY.name, classes, TINY.args)).state_dict(), recipe.model.checkpoint)
    return recipe.data


def test_masks_are_read_with_what_is_held_back(tmp_path: Path) -> None:
    recipe = masks(tmp_path)
    inputs = Inputs.of(recipe)
    data, held_back = inputs.data, inputs.held_back
    images, labels = data.holdout
    assert labels.shape == (len(images), 16, 16) and labels.dtype == torch.uint8
    assert 0 < held_back.metric(held_back.teacher) < 1
    assert len(data.calibration) == 24 and data.class_names == tuple("012345")
    with pytest.raises(InputError, match="number of classes is not set"):
        Inputs.of(replace(recipe, model=replace(recipe.model, num_classes=0)))
    Image.new("L", (72, 72), 9).save(tmp_path / "data/train/masks" / Path(data.train.masks[0]).name)
    again = Inputs.of(replace(recipe, data=replace(recipe.data, max_unreadable=1)))
    assert len(again.data.train) == 59
