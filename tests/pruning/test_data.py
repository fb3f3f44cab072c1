"""Which images each purpose gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import recipe_of
from tiny_project import small_project, without_class_folders

from wdp_edge.artifacts.sidecar import write_sidecar
from wdp_edge.errors import InputError
from wdp_edge.protocols.target import Artifact
from wdp_edge.pruning.data import numbered
from wdp_edge.pruning.finish import final_figures
from wdp_edge.pruning.inputs import Inputs


def test_choices_never_see_validation_or_held_back_images(tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path), target="onnx")
    options, inputs = recipe.prune.compensate, Inputs.of(recipe)
    data = inputs.data
    calibration = {data.train.paths[i] for i in data.sample.indices(data.train)}
    held = {data.train.paths[i] for i in data.holdout_indices}
    trained = {data.train.paths[i] for i in data.train_indices}
    assert not held & trained and not held & calibration and calibration <= trained
    refitted = {data.train.paths[i] for i in data.refit_images(inputs.model.module, options).indices}
    assert calibration < refitted <= trained
    assert data.val.root != data.train.root


def test_files_are_proven_on_held_back_images_or_where_they_are_few_on_all(tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path), target="onnx")
    few = Inputs.of(recipe).data
    assert not few.proves_on_held_back and len(few.proof_images[0]) == len(few.train)
    more = Inputs.of(replace(recipe, data=replace(recipe.data, holdout_images=12))).data
    assert more.proves_on_held_back and torch.equal(more.proof_images[0], more.holdout[0])
    assert replace(more, proofs=5).proof_images[1].unique().tolist() == [0, 1, 2], "of all classes"
    with pytest.raises(InputError, match="too few to compare"):
        _ = replace(more, proofs=1).proof_images


def test_stages_learn_on_streams_of_their_own(tmp_path: Path) -> None:
    data = Inputs.of(recipe_of(small_project(tmp_path), target="onnx")).data
    first, again, other = data.stream(8, first=0), data.stream(8, first=0), data.stream(8, first=1)
    assert first.chosen(0) == again.chosen(0) != other.chosen(0)
    assert not set(first.chosen(0)) & set(data.holdout_indices)


def test_training_images_may_lack_labels_that_validation_images_have(tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path), target="onnx")
    without_class_folders(tmp_path / "data/train")
    (tmp_path / "data/val/green").rename(tmp_path / "green")
    with pytest.raises(InputError, match="holds 2 classes, the model has 3"):
        Inputs.of(recipe)
    (tmp_path / "green").rename(tmp_path / "data/val/green")
    inputs = Inputs.of(recipe)
    data = inputs.data
    assert (data.task.facts.name, data.final_task.facts.name) == ("classify-unlabelled", "classify")
    assert data.class_names == data.names_of_parts == ("blue", "green", "red")
    assert data.input_facts.task == "classify" and set(data.holdout[1].tolist()) == {0}
    final = final_figures(inputs.tools, inputs.model, data, exported(inputs, tmp_path))
    assert final.dense_accuracy == final.shipped_accuracy < 1.0 and final.agreement == 1.0
    assert final.drops is not None and [part.images for part in final.drops.parts] == [4, 4, 4]


def test_validation_images_without_labels_are_no_classes(tmp_path: Path) -> None:
    recipe = recipe_of(small_project(tmp_path), target="onnx")
    for part in ("train", "val"):
        without_class_folders(tmp_path / "data" / part)
    with pytest.raises(InputError, match="have no labels, and accuracy needs them") as caught:
        Inputs.of(recipe)
    assert 'task = "classify-unlabelled"' in (caught.value.hint or "")
    data = Inputs.of(replace(recipe, model=replace(recipe.model, task="classify-unlabelled"))).data
    assert data.class_names == data.names_of_parts == ("0", "1", "2") and data.final_task is data.task
    (tmp_path / "names.txt").write_text("sky\ngrass\nfire\n")
    named = replace(recipe.data, class_order=str(tmp_path / "names.txt"))
    model = replace(recipe.model, task="classify-unlabelled")
    assert Inputs.of(replace(recipe, model=model, data=named)).data.class_names == ("sky", "grass", "fire")


def exported(inputs: Inputs, folder: Path) -> Artifact:
    """The dense model as a file."""
    artifact = inputs.tools.export(inputs.model.module, inputs.data, folder / "model.onnx")
    write_sidecar(artifact, inputs.data.input_facts, inputs.model.structure)
    return artifact


def test_class_numbers_of_masks_fit_a_byte() -> None:
    assert numbered(3) == ("0", "1", "2")
    with pytest.raises(InputError, match="255 classes at most"):
        numbered(256)
