"""What a recipe names, loaded and checked before anything costs time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import recipe_of
from tiny_project import small_project

from wdp_edge.config.recipe import Recipe
from wdp_edge.config.values import LatencyBudget
from wdp_edge.errors import InputError
from wdp_edge.pruning.inputs import SOFT, HeldBack, Inputs


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return recipe_of(small_project(tmp_path_factory.mktemp("project")), "80%", target="onnx")


def test_what_is_checked_leads_to_the_budget(recipe: Recipe) -> None:
    assert Inputs.of(recipe).check_prunable() == LatencyBudget(share=0.8)


def test_too_few_images_to_choose_by_are_named(recipe: Recipe) -> None:
    inputs = Inputs.of(replace(recipe, data=replace(recipe.data, holdout_images=0)))
    with pytest.raises(InputError, match="None of the 72 images"):
        inputs.check_prunable()


def test_the_checkpoint_is_read_after_the_images_are_known_to_be_there(recipe: Recipe, tmp_path: Path) -> None:
    neither = replace(recipe, model=replace(recipe.model, checkpoint=str(tmp_path / "gone.safetensors")))
    with pytest.raises(InputError, match=r"gone\.safetensors"):
        Inputs.of(neither)
    neither = replace(neither, data=replace(recipe.data, train=str(tmp_path / "no-images")))
    with pytest.raises(InputError, match="no-images"):
        Inputs.of(neither)


def test_held_back_images_are_judged_by_the_dense_model(recipe: Recipe) -> None:
    inputs = Inputs.of(recipe)
    held_back, (images, labels) = inputs.held_back, inputs.data.holdout
    assert held_back.teacher.shape == (len(images), 3) and not held_back.teacher.requires_grad
    right = (held_back.teacher.argmax(1) == labels).float().mean()
    assert held_back.metric(held_back.teacher) == pytest.approx(float(right))
    assert torch.equal(held_back.outputs(inputs.model.module), held_back.teacher)


def test_on_images_that_it_knows_by_heart_outputs_are_compared_softened(recipe: Recipe) -> None:
    inputs = Inputs.of(recipe)
    images = inputs.data.holdout[0].repeat(8, 1, 1, 1)
    names = inputs.held_back.teacher.argmax(1).repeat(8)
    assert not inputs.held_back.memorised and inputs.held_back.temperature == 1.0, "a few images are no evidence"
    some_wrong = names.clone()
    some_wrong[::10] = (some_wrong[::10] + 1) % 3
    for labels, memorised in ((names, True), (some_wrong, False)):
        vars(inputs.data)["holdout"] = (images, labels)
        held_back = HeldBack(inputs.model, inputs.data)
        assert held_back.memorised is memorised
        sharper = held_back.teacher * 1.2
        wanted = inputs.data.task.divergence(sharper, held_back.teacher, SOFT if memorised else 1.0)
        assert held_back.divergence(sharper) == pytest.approx(float(wanted))


@torch.no_grad()
def test_a_checkpoint_of_blue_green_red_becomes_a_model_of_red_green_blue(recipe: Recipe) -> None:
    as_it_is = Inputs.of(recipe)
    turned = Inputs.of(replace(recipe, data=replace(recipe.data, preprocess={"channels": "bgr"})))
    assert turned.data.preprocessing == as_it_is.data.preprocessing
    images = as_it_is.data.prepare(as_it_is.data.holdout[0][:4])
    assert torch.allclose(turned.model.module(images), as_it_is.model.module(images.flip(1)), atol=1e-5)
