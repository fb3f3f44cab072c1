"""A dense file that is inside the budget as it is, on a FAKE device (fake_clock_run.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_clock_run import fake_clock, recipe_of
from tiny_project import small_project

import wdp_edge.pruning.budgets as budgets_module
import wdp_edge.pruning.prune as prune_module
from wdp_edge.config.budgets import Budget
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.config.values import CountBudget, LatencyBudget, Quantity
from wdp_edge.progress import Silent
from wdp_edge.pruning.budgets import may_ship_dense
from wdp_edge.pruning.inputs import DenseModel
from wdp_edge.pruning.prune import prune
from wdp_edge.report import report
from wdp_edge.runs.run import recipe_digest


def test_it_ships_at_once_and_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_project(tmp_path)
    recipe = recipe_of(folder, "1000ms", target="onnx")
    said: list[str] = []
    monkeypatch.setattr(Silent, "say", lambda self, text: said.append(text))
    monkeypatch.setattr(
        budgets_module, "measure_table", lambda *_, **__: pytest.fail("nothing is measured for pruning")
    )
    with fake_clock(tmp_path / "cache"):
        with monkeypatch.context() as patch:
            patch.setattr(prune_module, "dense_copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                prune(recipe)
        result = prune(recipe)
    assert any("ships as it is" in text and "--force" in text for text in said)
    assert result.budget.met and result.verified and not result.pruned
    assert result.shipped.path is not None and result.dense.path is not None
    assert result.shipped.path.read_bytes() == result.dense.path.read_bytes()
    assert result.shipped.path.name == "model.onnx" and result.shipped.parameters == result.dense.parameters
    assert result.shipped.agreement == 1.0 and result.shipped.accuracy is not None
    stages = {p.stem for p in (result.run / "stages").glob("*.json")}
    assert not stages & {"table", "saliency", "learn", "select", "recover"}
    assert "ships" not in stages and "<html" in report(result.run).path.read_text()


@pytest.mark.parametrize(
    ("budget", "force", "may"),
    [
        (LatencyBudget(milliseconds=1e6), False, True),
        (LatencyBudget(milliseconds=1e6), True, False),
        (LatencyBudget(share=1.0), False, True),
        (LatencyBudget(share=0.5), False, False),
        (CountBudget(Quantity.MACS, count=10**12), False, True),
        (CountBudget(Quantity.MACS, count=10**12), True, False),
        (CountBudget(Quantity.PARAMETERS, share=1.0), False, True),
        (CountBudget(Quantity.PARAMETERS, share=0.9), False, False),
    ],
)
def test_forced_or_a_share_below_one_needs_no_timing(tmp_path: Path, budget: Budget, force: bool, may: bool) -> None:
    dense = DenseModel.of(recipe_of(small_project(tmp_path)).model)
    assert may_ship_dense(PruneRecipe(force=force), dense, budget) is may


def test_force_makes_another_run(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    forced = replace(recipe, prune=replace(recipe.prune, force=True))
    assert recipe_digest(recipe) != recipe_digest(forced)
