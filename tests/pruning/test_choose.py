"""Structures that a budget leads to, in whole runs of a tiny real ViT on a FAKE device (fake_clock_run.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_clock_run import FakeClock, recipe_of
from tiny_project import small_project

import wdp_edge
import wdp_edge.pruning.toolkit as toolkit_module
from wdp_edge.config.recipe import LearnRecipe, PruneRecipe
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.errors import InputError
from wdp_edge.io.plain import read_as
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import Kind
from wdp_edge.pruning.choose import rankings_of, search_batch, steps_of
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runs.stages import Learned, Selected, Verified
from wdp_edge.shrink.saliency import Importance, Saliency


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module", autouse=True)
def cache(tables: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WDP_EDGE_CACHE", str(tables))
        yield


def test_an_unreachable_budget_says_what_can_be_reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit_module, "get_device", lambda *name: FakeClock())
    recipe = recipe_of(folder, "1%", images=0, target="onnx")
    with pytest.raises(InputError, match=r"smallest structure reaches: about .* ms"):
        prune(replace(recipe, prune=replace(recipe.prune, out=str(folder / "unreachable"))))


def test_sublayers_are_dropped_where_nothing_else_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit_module, "get_device", lambda *name: FakeClock())
    recipe = recipe_of(folder, "25%", images=48, target="onnx")
    plain = replace(recipe.prune, learn=replace(recipe.prune.learn, exits=0), out=str(folder / "whole"))
    kept = replace(plain, select=replace(plain.select, drop_sublayers=False))
    with pytest.raises(InputError, match="smallest structure reaches"):
        prune(replace(recipe, prune=kept))
    result = prune(replace(recipe, prune=replace(plain, out=str(folder / "dropped"))))
    model = wdp_edge.load(result.run / "model")
    assert any(not b.heads or not b.hidden for b in structure_of(model).blocks)
    assert result.budget.met and result.shipped.macs < result.dense.macs
    assert sum(p.numel() for p in model.parameters()) == result.shipped.parameters
    for parity in read_as(result.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4
    assert "<svg" in report(result.run).path.read_text()


def test_heads_get_fewer_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one head per block, and none dropped, there is no other way to a smaller attention."""
    monkeypatch.setattr(toolkit_module, "get_device", lambda *name: FakeClock())
    args = {"depth": 2, "num_heads": 1}
    recipe = recipe_of(small_project(tmp_path, **args), "70%", images=0, target="onnx")
    model = replace(recipe.model, args={**recipe.model.args, **args})
    select = replace(recipe.prune.select, drop_sublayers=False)
    options = replace(recipe.prune, select=select, out=str(tmp_path / "narrow"))
    result = prune(replace(recipe, model=model, prune=options))
    selected = read_as(result.run / "stages" / "select.json", Selected)
    assert selected.head_dims and min(selected.head_dims) in (16, 24)
    small = structure_of(wdp_edge.load(result.run / "model"))
    assert [b.head_dim for b in small.blocks] == selected.head_dims
    for parity in read_as(result.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4


def test_without_training_no_labels_are_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit_module, "get_device", lambda *name: FakeClock())
    recipe = recipe_of(folder, "60%", images=0, target="onnx")
    monkeypatch.setattr("wdp_edge.pruning.finish.recover", lambda *_: pytest.fail("no training with --images 0"))
    result = prune(replace(recipe, prune=replace(recipe.prune, out=str(folder / "untrained"))))
    assert not (result.run / "stages" / "learn.json").exists()
    compensated = wdp_edge.load(result.run / "stages" / "compensated").state_dict()
    shipped = wdp_edge.load(result.run / "model").state_dict()
    assert all(torch.equal(compensated[k], shipped[k]) for k in compensated)


@pytest.mark.parametrize(
    ("images", "most", "batch"),
    [
        pytest.param(96_000, 64, 64, id="enough as it is"),
        pytest.param(9_000, 64, 32, id="halved until there are 150 steps"),
        pytest.param(1_180, 64, 8, id="the smallest"),
        pytest.param(100, 4, 4, id="never larger than was asked for"),
        pytest.param(1_180, 50, 25, id="no half of an odd one"),
    ],
)
def test_batches_of_learning_get_smaller_before_steps_get_few(images: int, most: int, batch: int) -> None:
    assert search_batch(images, most) == batch
    steps = steps_of(PruneRecipe(images=images, learn=LearnRecipe(share=1.0, batch_size=most)), 10**6)
    assert (steps.learn, steps.learn_batch) == (images // batch, batch)


def test_widths_of_a_search_that_did_not_get_to_its_budget_are_not_used() -> None:
    importance = Importance((1, 0), (0.0, 1.0, 3.0))
    start = Saliency((importance,), (importance,))
    key = TableKey("onnx", "fp32", "a", 1, 8, 4, 5, {})
    table = LatencyTable(((1.0, 1.0), (2.0, 2.0)), ((1.0, 1.0), (2.0, 2.0)), 1.0, 5.0, Kind.MEASURED, key, ())
    learned = Learned([[0.5, 0.6]], [[0.5, 0.6]], [0.5], [0.5], 1.0, 64, [], cost_ms=1.02, budget_ms=1.0)
    names = [ranking.name for ranking in rankings_of(start, (), learned, table)]
    assert names == ["compensation", "learned", "exactly as learned", "blend"]
    late = replace(learned, cost_ms=1.03)
    assert [ranking.name for ranking in rankings_of(start, (), late, table)] == names[:1]
