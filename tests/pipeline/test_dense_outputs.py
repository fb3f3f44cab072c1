"""What the dense model gives for the validation images is computed once, and again when anything of it changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import recipe_of
from test_resume import small_project

from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.dense_outputs import dense_outputs, digest
from wdp_edge.recipe import Recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "project").mkdir()
    return recipe_of(small_project(tmp_path / "project"), "80%")


@contextmanager
def must_not_run(context: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(context.dense, "forward", None)
        yield


def test_they_are_read_back(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Context(recipe)
    wanted = first.validation_outputs(first.dense, "all")
    assert all(map(torch.equal, dense_outputs(first, tmp_path / "kept"), wanted))
    again = Context(recipe)
    with must_not_run(again, monkeypatch):
        assert all(map(torch.equal, dense_outputs(again, tmp_path / "kept"), wanted))


def test_a_damaged_file_is_made_again(recipe: Recipe, tmp_path: Path) -> None:
    context = Context(recipe)
    wanted, _ = dense_outputs(context, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").glob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:50])
    for _ in range(2):
        assert torch.equal(dense_outputs(context, tmp_path / "kept")[0], wanted)


def test_what_they_depend_on_is_in_the_name(recipe: Recipe) -> None:
    context = Context(recipe)
    found = [digest(context)]
    path = context.val.root / context.val.paths[0]
    path.write_bytes(path.read_bytes())  # another time, the same size
    found.append(digest(context))
    with torch.no_grad():
        next(context.dense.parameters()).view(-1)[0] += 1e-3
    found.append(digest(context))
    context.preprocessing = replace(context.preprocessing, crop_pct=0.5)
    found.append(digest(context))
    assert len(set(found)) == 4
    assert digest(Context(recipe)) == found[1]


def test_only_the_last_used_files_stay(recipe: Recipe, tmp_path: Path) -> None:
    context = Context(recipe)
    for number in range(6):
        with torch.no_grad():
            next(context.dense.parameters()).view(-1)[0] = number
        dense_outputs(context, tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 4
