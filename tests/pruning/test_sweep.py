"""Several budgets in one command, on a FAKE device (fake_clock_run.py): what no budget decides is done once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_clock_run import fake_clock, recipe_of
from tiny_project import small_project

from wdp_edge.cli._shared import MET, MISSED, WRONG_INPUT, code_of
from wdp_edge.commands.check import check
from wdp_edge.config.recipe import BudgetRecipe, Recipe
from wdp_edge.errors import InputError
from wdp_edge.pruning import budgets, choose, prune
from wdp_edge.pruning.sweep import sweep
from wdp_edge.report import report
from wdp_edge.runs.sweeps import SweepResult

SHARED = ("measure_table", "importance_of")


def recipe_for(folder: Path, budgets: str) -> Recipe:
    """Nothing is learned."""
    recipe = recipe_of(folder, budgets, images=0, target="onnx")
    return replace(recipe, prune=replace(recipe.prune, out=str(folder / "runs/all")))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the latency table, which is measured once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each of `SHARED` was called; both work as they do."""
    counted: Counter[str] = Counter()

    def counting(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return real(*args, **kwargs)

        return call

    for home, name in ((budgets, "measure_table"), (choose, "importance_of")):
        monkeypatch.setattr(home, name, counting(name, getattr(home, name)))
    return counted


def weights(sweep_result: SweepResult, budget: str) -> bytes:
    (run,) = (entry.run for entry in sweep_result.entries if entry.budget == budget)
    return (run / "model/model.safetensors").read_bytes()


def missed(sweep_result: SweepResult) -> SweepResult:
    """The same with its first budget missed."""
    first, *others = sweep_result.entries
    assert first.result is not None
    late = replace(first.result, budget=replace(first.result.budget, met=False))
    return replace(sweep_result, entries=[replace(first, result=late), *others])


def test_budgets_share_what_none_of_them_decides(tmp_path: Path, cache: Path, calls: Counter[str]) -> None:
    folder = small_project(tmp_path)
    with fake_clock(cache):
        both = sweep(recipe_for(folder, "80%,60%"))
        assert calls == dict.fromkeys(SHARED, 1)
        three = sweep(recipe_for(folder, "70%"))
        assert calls == dict.fromkeys(SHARED, 1), "a further budget joins them"
        again = sweep(recipe_for(folder, "60%, 80%"))
        alone = prune.prune(recipe_of(folder, "60%", images=0, target="onnx"))
    assert [entry.budget for entry in both.entries] == ["60%", "80%"], "the fastest first"
    assert [e.budget for e in three.entries] == [e.budget for e in again.entries] == ["60%", "70%", "80%"]
    assert both.met and not both.unjudged and code_of(both) == MET
    assert code_of(missed(both)) == MISSED
    assert all(result.verified and result.shipped.path for result in three.results)
    sizes = [result.shipped.parameters for result in three.results]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert weights(again, "60%") == (alone.run / "model/model.safetensors").read_bytes(), "as in a run of its own"
    page = report(again.folder).path.read_text()
    assert page.count("<svg") == 1 and all(
        f'href="{name}-onnx/report.html"' in page for name in ("60pct", "70pct", "80pct")
    )
    assert all((entry.run / "report.html").exists() for entry in again.entries)


def test_a_budget_out_of_reach_does_not_stop_the_others(tmp_path: Path, cache: Path) -> None:
    folder = small_project(tmp_path)
    with fake_clock(cache):
        found = sweep(recipe_for(folder, "1%,80%"))
        assert [(e.budget, e.result is None) for e in found.entries] == [("1%", True), ("80%", False)]
        assert "below what the smallest structure reaches" in found.entries[0].error
        assert code_of(found) == WRONG_INPUT
        page = report(found.folder).path.read_text()
    assert "1 of 2 budgets met" in page and "smallest structure" in page


def test_targets_share_what_is_of_the_model(tmp_path: Path, cache: Path, calls: Counter[str]) -> None:
    folder = small_project(tmp_path)
    recipe = recipe_for(folder, "80%")
    with fake_clock(cache):
        sweep(recipe_for(folder, "80%"))
        both = sweep(replace(recipe, prune=replace(recipe.prune, target="onnx,executorch")))
    assert calls == {"measure_table": 2, "importance_of": 1}
    assert [(entry.target, entry.budget) for entry in both.entries] == [("executorch", "80%"), ("onnx", "80%")]
    assert both.met and [result.shipped.path.suffix for result in both.results if result.shipped.path] == [
        ".pte",
        ".onnx",
    ]
    fp32 = [BudgetRecipe(target=name, precision="fp32", latency="100s", size="9MB") for name in ("onnx", "executorch")]
    held = check(both.folder, fp32)
    assert [budget.target for budget in held.budgets] == ["onnx", "executorch"] and held.met, held.unjudged
    assert [budget.path.parent.parent.name for budget in held.budgets] == ["80pct-onnx", "80pct-executorch"]


def test_whatever_does_not_fit_is_said_before_the_first_run(tmp_path: Path, cache: Path) -> None:
    folder = small_project(tmp_path)
    recipe = recipe_for(folder, "80%")
    own = replace(recipe.prune, target="tflite,onnx", precision="int8-weight")
    with fake_clock(cache), pytest.raises(InputError, match="onnx"):
        sweep(replace(recipe, prune=own))
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "one budget, not 50%,60%"),
        ({"latency_budget": "50%", "target": "onnx,tflite"}, "one target, not onnx,tflite"),
        ({"latency_budget": "50%", "device": "local,qemu:cortex-a76"}, "one device, not local,"),
    ],
)
def test_one_function_makes_one_run(tmp_path: Path, given: dict[str, str], said: str) -> None:
    recipe = recipe_of(tmp_path, "50%,60%")
    with pytest.raises(InputError, match=said) as raised:
        prune.prune(replace(recipe, prune=replace(recipe.prune, **given)))  # type: ignore[arg-type]
    assert "sweep" in raised.value.hint
