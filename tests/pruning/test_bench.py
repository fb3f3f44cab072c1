"""The loop on the device: which files it makes and times, with FAKE files and a FAKE clock that is exact."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wdp_edge.config.recipe import SelectRecipe
from wdp_edge.config.values import LatencyBudget
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import Kind, Latency
from wdp_edge.pruning.bench import Bench, goal_of
from wdp_edge.runs.stages import Measured

KEY = TableKey("fake", "fp32", "fake", 1, 32, 8, 17, {})
# By the table a head takes 1 ms, 32 hidden units as much, everything else 4 ms: 28 ms in all.
TABLE = LatencyTable(((1.0, 1.0), (4.0, 4.0)), ((32.0, 1.0), (128.0, 4.0)), 4.0, 28.0, Kind.MEASURED, KEY, ())
BUDGET = LatencyBudget(milliseconds=20.0)


@dataclass
class Tools:
    """FAKE: a file holds what it takes, which is a tenth more than the table says; and what was made is counted."""

    target: Any = field(default_factory=lambda: SimpleNamespace(suffix=".fake"))
    exported: list[str] = field(default_factory=list)
    breaks_after: int = 100

    def export(self, model: Any, data: Any, path: Path) -> None:
        self.exported.append(path.name)
        path.write_text(str(1.1 * TABLE.predict(structure_of(model))))

    def time_beside(self, dense: Path, path: Path, budget: LatencyBudget, dense_ms: float, times: int = 1) -> Measured:
        if len(self.exported) > self.breaks_after:
            raise KeyboardInterrupt
        ms = float(path.read_text())
        whole, file = Latency(28.0, 28.0, 28.0), Latency(ms, ms, ms)
        return Measured(whole, file, ms / 28, budget.resolve(28.0), [28.0] * 4, [ms] * 4)


def bench(tools: Any, scratch: Path) -> Bench:
    nothing: Any = None
    return Bench(tools, nothing, BUDGET, goal_of(SelectRecipe(), 20.0), TABLE, scratch / "dense.fake", scratch)


def widths(model: Any, hidden: int) -> Kept:
    whole: Structure = structure_of(model)
    return Kept.first(whole.with_widths([b.heads for b in whole.blocks], [hidden] * whole.depth))


def propose_from(model: Any) -> Any:
    """The widest MLPs that fit by the table."""

    def propose(limit_ms: float, like: Structure | None) -> Kept | None:
        whole = structure_of(model)
        fitting = [h for h in range(8, 129, 8) if TABLE.predict(widths(model, h).structure(whole)) <= limit_ms]
        return widths(model, fitting[-1]) if fitting else None

    return propose


def test_the_structure_that_is_found_meets_the_budget_by_its_file(tiny_model: Any, tmp_path: Path) -> None:
    tools = Tools()
    propose = propose_from(tiny_model)
    found = bench(tools, tmp_path).find(tiny_model, propose, propose(20.0, None))
    assert found is not None and 0.9 < found.chosen.used <= 1.0
    assert found.rounds[0].used > 1.0, "the first one would have fitted by the table"
    assert len(found.rounds) == len(tools.exported) and found.measured[0].shipped.p50 <= 20.0
    assert not (tmp_path / "timed").exists()


def test_a_known_structure_that_is_the_best_is_no_find(tiny_model: Any, tmp_path: Path) -> None:
    tools = Tools()
    propose = propose_from(tiny_model)
    found = bench(tools, tmp_path).find(tiny_model, propose, propose(20.0, None))
    assert found is not None
    assert bench(tools, tmp_path).find(tiny_model, propose, known=[found.chosen]) is None


def test_a_loop_that_was_broken_off_finds_its_files(tiny_model: Any, tmp_path: Path) -> None:
    tools, propose = Tools(breaks_after=1), propose_from(tiny_model)
    first = propose(20.0, None)
    with pytest.raises(KeyboardInterrupt):
        bench(tools, tmp_path).find(tiny_model, propose, first)
    again = Tools()
    assert bench(again, tmp_path).find(tiny_model, propose, first) is not None
    assert not set(tools.exported) & set(again.exported)


@pytest.mark.parametrize(("floor", "margin", "aim"), [(0.9, 0.95, 0.95), (0.9, 0.8, 0.95)])
def test_the_aim_is_inside_the_band(floor: float, margin: float, aim: float) -> None:
    goal = goal_of(SelectRecipe(floor=floor, margin=margin), 10.0)
    assert (goal.low, goal.aim) == (floor, pytest.approx(aim))
