"""The model of a run that files are made from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import recipe_of
from tiny_project import SMALLER, small_project

from wdp_edge.commands.source import Source, dense_run
from wdp_edge.config.recipe import Recipe
from wdp_edge.errors import InputError
from wdp_edge.protocols.precision import Precision


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    made = recipe_of(small_project(tmp_path_factory.mktemp("project"), **SMALLER), target="onnx")
    return replace(made, model=replace(made.model, args={**made.model.args, **SMALLER}))


@pytest.fixture(scope="module")
def run(recipe: Recipe) -> Path:
    return dense_run(recipe)


def test_a_dense_run_has_the_trained_model(run: Path, recipe: Recipe) -> None:
    source = Source.of(run)
    assert torch.equal(source.reference.outputs, source.dense_outputs)
    manifest = (run / "manifest.json").read_bytes()
    assert dense_run(recipe) == run and (run / "manifest.json").read_bytes() == manifest


def test_an_export_of_it_says_where_it_comes_from(run: Path) -> None:
    source = Source.of(run)
    about = json.loads(source.job(run / "artifacts/model.onnx", Precision.FP32, pixels=True).metadata["wdp_edge"])
    assert about["classes"] == ["blue", "green", "red"] and about["input"]["dtype"] == "uint8"
    assert source.calibration_file() == source.calibration_file()


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run folder"):
        Source.of(tmp_path)
    manifest = json.loads((run / "manifest.json").read_text())
    unfinished = {name: value for name, value in manifest.items() if name != "finished"}
    (run / "manifest.json").write_text(json.dumps(unfinished))
    try:
        with pytest.raises(InputError, match="is not finished"):
            Source.of(run)
    finally:
        (run / "manifest.json").write_text(json.dumps(manifest))
