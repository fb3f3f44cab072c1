"""What a file's timings lead to: it ships, or a smaller model is cut in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_clock_run import fake_clock, recipe_of
from timings import timing
from tiny_project import small_project

import wdp_edge
from wdp_edge.commands.export import export
from wdp_edge.config.values import parse_budget
from wdp_edge.io.plain import read_as
from wdp_edge.models.vit import structure_of
from wdp_edge.pruning.prune import prune
from wdp_edge.pruning.tighten import Attempt, Earlier, best_attempt, counted, good_enough
from wdp_edge.runs.stages import Selected
from wdp_edge.select.bracket import Goal, Seen, Session

GOAL = Goal(budget_ms=5.0, low=0.95, aim=0.975, rounds=4)


def test_timings_of_the_structure_count_unless_its_file_contradicts_them() -> None:
    budget = parse_budget("50%")
    before = Earlier(0.975, [timing(0.4875, budget), timing(0.489, budget)])
    alike, other = [timing(0.486, budget)], [timing(0.68, budget)]
    assert counted(budget, before, alike) == [*before.measured, *alike]
    assert counted(budget, before, other) == other
    drifted = [timing(0.468, budget)]
    assert counted(budget, before, drifted) == [*before.measured, *drifted], "4 % are what other work does"
    late = [timing(0.502, budget)]
    assert counted(budget, before, late) == late, "what was chosen for fitting may not outvote a file that misses"
    assert counted(budget, Earlier(0.975, []), alike) == alike, "a record of before"


def attempts(*shares: float) -> list[Attempt]:
    """Files that take these shares of the budget, each of another structure."""
    nothing: Any = None
    return [
        Attempt(nothing, nothing, nothing, Seen((Session(share, 0.001),), nothing, nothing, 5 * share))
        for share in shares
    ]


@pytest.mark.parametrize(
    ("shares", "enough"),
    [
        pytest.param([0.97], True, id="in the band"),
        pytest.param([0.6], True, id="below the band, but nothing missed"),
        pytest.param([1.2], False, id="missed"),
        pytest.param([1.2, 0.97], True, id="in the band at last"),
        pytest.param([1.2, 0.6], False, id="cut by too much"),
    ],
)
def test_what_missed_is_cut_until_a_file_is_in_the_band(shares: list[float], enough: bool) -> None:
    assert good_enough(attempts(*shares), GOAL) is enough


@pytest.mark.parametrize(("shares", "best"), [([1.2, 0.6], 1), ([1.2, 0.96, 1.01], 1), ([1.2, 1.1], 1)])
def test_no_file_over_the_budget_ships_where_one_is_inside(shares: list[float], best: int) -> None:
    made = attempts(*shares)
    assert best_attempt(made, GOAL) is made[best]


def test_a_file_that_misses_is_cut_again(tmp_path: Path, tables: Path) -> None:
    recipe = recipe_of(small_project(tmp_path), "70%", images=120, target="onnx")
    with fake_clock(tables, late=1.4):
        result = prune(recipe)
    assert result.shipped.path is not None and result.shipped.path.name != "model.onnx"
    assert result.budget.met
    first = read_as(result.run / "stages" / "select.json", Selected)
    smaller = wdp_edge.load(result.run / "model")
    heads, hidden = [len(h) for h in first.kept_heads], [len(n) for n in first.kept_hidden]
    now = structure_of(smaller).blocks
    assert sum(b.heads for b in now) + sum(b.hidden for b in now) < sum(heads) + sum(hidden)
    (exported,) = export(result.run, precisions=["fp32"]).artifacts
    assert exported.parity.max_error < 1e-4
