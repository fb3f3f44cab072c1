"""Budgets in MACs and parameters, and a fixed exit: whole runs on a FAKE device, which decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_clock_run import fake_clock, recipe_of
from tiny_project import small_project

import wdp_edge
from wdp_edge.commands.check import check
from wdp_edge.config.recipe import BudgetRecipe, Recipe
from wdp_edge.config.values import Quantity
from wdp_edge.errors import InputError, UnreachableBudget
from wdp_edge.io.plain import read_as
from wdp_edge.models.structure import count
from wdp_edge.models.vit import geometry_of, structure_of
from wdp_edge.pruning.course import works_of
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.pruning.prune import prune
from wdp_edge.pruning.sweep import sweep
from wdp_edge.report import report
from wdp_edge.runs.expected import Work
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import Selected, Verified


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module", autouse=True)
def clock(tables: Path) -> Iterator[None]:
    with fake_clock(tables):
        yield


def recipe_for(folder: Path, name: str, images: int = 0, exit: int = 0, **budget: str) -> Recipe:
    recipe = recipe_of(folder, "", images=images, target="onnx")
    select = replace(recipe.prune.select, tilt=0.0, exit=exit)
    own = replace(recipe.prune, out=str(folder / "runs" / name), select=select, **budget)
    return replace(recipe, prune=own)


@pytest.fixture(scope="module")
def learned(folder: Path) -> PruneResult:
    """Half of the multiply-accumulates, widths learned."""
    return prune(recipe_for(folder, "macs", images=480, macs_budget="50%"))


def test_the_file_has_at_most_the_multiply_accumulates_of_the_budget(learned: PruneResult) -> None:
    budget = learned.budget
    assert budget.counted is not None and budget.counted.quantity is Quantity.MACS
    assert budget.met and budget.counted.count == learned.shipped.macs <= budget.counted.limit
    assert budget.counted.limit == learned.dense.macs // 2
    assert budget.ratio == learned.shipped.macs / budget.counted.limit > 0.9, "what is allowed is used"
    assert (budget.latency_ms, budget.measured_ms, budget.basis) == (None, None, "count")
    model: Any = wdp_edge.load(learned.run / "model")
    assert count(structure_of(model), geometry_of(model)).macs == learned.shipped.macs
    assert sum(p.numel() for p in model.parameters()) == learned.shipped.parameters


def test_its_file_is_proven_and_timed_once(learned: PruneResult) -> None:
    assert learned.verified and learned.shipped.latency_ms.p50 > 0 and learned.dense.latency_ms.p50 > 0
    for parity in read_as(learned.run / "stages" / "verify.json", Verified).parity:
        assert parity.max_error < 1e-4
    selected = read_as(learned.run / "stages" / "select.json", Selected)
    assert not selected.rounds and not selected.measured, "no file was timed to choose a structure"
    assert [p.name for p in (learned.run / "stages").glob("export*")] == ["export.json"]


def test_the_page_speaks_of_counts(learned: PruneResult) -> None:
    page = report(learned.run).path.read_text()
    assert "MACs counted" in page and "Cost of the rounded structure, % of MACs" in page
    assert "ms allowed" not in page and "The latency table" not in page


def test_a_budget_of_time_can_be_checked_all_the_same(learned: PruneResult) -> None:
    assert check(learned.run, [BudgetRecipe(target="onnx", precision="fp32", latency="100s")]).met


def test_a_share_of_the_parameters_stays_in_a_model_that_ends_early(folder: Path) -> None:
    result = prune(recipe_for(folder, "kept", exit=2, keep="0.6"))
    counted = result.budget.counted
    assert counted is not None and counted.quantity is Quantity.PARAMETERS and result.shipped.exit == 2
    assert counted.count == result.shipped.parameters <= counted.limit <= 0.6 * result.dense.parameters
    candidates = read_as(result.run / "stages" / "select.json", Selected).candidates
    assert {c.exit for c in candidates} == {2}


def test_a_dense_model_inside_the_budget_ships_as_it_is(folder: Path) -> None:
    result = prune(recipe_for(folder, "dense", macs_budget="1G"))
    assert not result.pruned and result.budget.met and result.shipped.macs == result.dense.macs
    assert result.budget.ratio < 1 and "1.00 G MACs allowed" in report(result.run).path.read_text().replace(
        "\u00a0", " "
    )


def test_what_cannot_be_is_said_before_anything_is_done(folder: Path) -> None:
    with pytest.raises(InputError, match="cannot end after block 1 of 3, only after 2, 3"):
        prune(recipe_for(folder, "early", exit=1, macs_budget="50%"))
    with pytest.raises(InputError, match=r'not macs_budget = "50%" and keep = "0.5"'):
        prune(recipe_for(folder, "both", macs_budget="50%", keep="0.5"))
    assert not (folder / "runs/early").exists() and not (folder / "runs/both").exists()
    with pytest.raises(UnreachableBudget, match=r"2% of MACs is below what the smallest structure reaches: about"):
        prune(recipe_for(folder, "tiny", macs_budget="2%"))


def test_several_counts_are_a_sweep(folder: Path, learned: PruneResult) -> None:
    found = sweep(recipe_for(folder, "all", macs_budget="70%,45%"))
    assert [entry.budget for entry in found.entries] == ["45% of MACs", "70% of MACs"] and found.met
    assert [entry.run.name for entry in found.entries] == ["macs-45pct-onnx", "macs-70pct-onnx"]
    assert all(result.budget.ratio > 0.9 for result in found.results), "equal shares are filled up, too"
    page = report(found.folder).path.read_text()
    assert (
        "Accuracy against MACs and latency" in page
        and "MACs, millions" in page
        and "latency, ms" in page
        and "images/s" in page
    )


def test_runs_of_time_and_of_counts_share_all_but_the_table(folder: Path) -> None:
    of_time, counted = (
        recipe_for(folder, "mixed", latency_budget="70%"),
        recipe_for(folder, "mixed", keep="0.7"),
    )
    first, second = sweep(replace(of_time)), sweep(counted)
    assert [entry.budget for entry in second.entries] == ["70%", "0.7 of parameters"]
    assert first.met and second.met
    tables = [(entry.run / "stages" / "table.json").read_text() for entry in second.entries]
    saliency = {(entry.run / "stages" / "saliency.json").read_text() for entry in second.entries}
    assert '"ms"' in tables[0] and "% of parameters" in tables[1] and len(saliency) == 1


def test_no_time_is_foreseen_for_what_a_count_does_not_need(folder: Path) -> None:
    counted, timed = (
        works_of(inputs, inputs.recipe.prune)
        for inputs in map(
            Inputs.of, (recipe_for(folder, "a", macs_budget="50%"), recipe_for(folder, "b", latency_budget="50%"))
        )
    )
    assert counted.keys() == timed.keys()
    assert counted["table"] == Work() and timed["table"].exports > 0
    assert counted["select"].exports == 0 and counted["select"].images == timed["select"].images
