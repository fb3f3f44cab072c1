"""What the dense model gives for the validation images is computed once, and again when anything of it changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import recipe_of
from tiny_project import small_project

from wdp_edge.config.recipe import Recipe
from wdp_edge.pruning.dense_outputs import dense_outputs, digest, validation_outputs
from wdp_edge.pruning.inputs import DenseModel, Inputs


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "project").mkdir()
    return recipe_of(small_project(tmp_path / "project"), "80%")


@contextmanager
def must_not_run(model: DenseModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(model.module, "forward", None)
        yield


def test_they_are_read_back(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Inputs.of(recipe)
    wanted = validation_outputs(first.model, first.data)
    assert all(map(torch.equal, dense_outputs(first.model, first.data, tmp_path / "kept"), wanted))
    again = Inputs.of(recipe)
    with must_not_run(again.model, monkeypatch):
        assert all(map(torch.equal, dense_outputs(again.model, again.data, tmp_path / "kept"), wanted))


def test_a_damaged_file_is_made_again(recipe: Recipe, tmp_path: Path) -> None:
    inputs = Inputs.of(recipe)
    wanted, _ = dense_outputs(inputs.model, inputs.data, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:50])
    for _ in range(2):
        assert torch.equal(dense_outputs(inputs.model, inputs.data, tmp_path / "kept")[0], wanted)


def test_what_they_depend_on_is_in_the_name(recipe: Recipe) -> None:
    inputs = Inputs.of(recipe)
    model, data = inputs.model, inputs.data
    found = [digest(model, data)]
    path = data.val.root / data.val.paths[0]
    path.write_bytes(path.read_bytes())  # another time, the same size
    found.append(digest(model, data))
    with torch.no_grad():
        next(model.module.parameters()).view(-1)[0] += 1e-3
    found.append(digest(model, data))
    found.append(digest(model, replace(data, preprocessing=replace(data.preprocessing, crop_pct=0.5))))
    assert len(set(found)) == 4
    assert digest((again := Inputs.of(recipe)).model, again.data) == found[1]


def test_only_the_last_used_files_stay(recipe: Recipe, tmp_path: Path) -> None:
    inputs = Inputs.of(recipe)
    for number in range(6):
        with torch.no_grad():
            next(inputs.model.module.parameters()).view(-1)[0] = number
        dense_outputs(inputs.model, inputs.data, tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 4
