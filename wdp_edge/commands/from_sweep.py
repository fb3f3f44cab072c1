"""Which run of a sweep delivers the file that a [[budget]] asks for."""

from __future__ import annotations

from collections.abc import Sequence

from wdp_edge.config.recipe import BudgetRecipe
from wdp_edge.config.values import parse_budget, parse_bytes
from wdp_edge.errors import InputError
from wdp_edge.protocols.target import get_target, parse_precision
from wdp_edge.runs.places import run_recipe
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.sweeps import SweepEntry, SweepResult


def choose_run(sweep: SweepResult, budget: BudgetRecipe) -> SweepEntry:
    """The run with the slowest of the files that are inside the budget by their own figures, or else with the fastest
    one: what a file may take, it spends on accuracy. Accuracy on validation images plays no part.

    Raises InputError where no run is for the budget's target, precision, device and threads.
    """
    precision = parse_precision(budget.precision, get_target(budget.target))
    wanted = budget.target, precision, budget.device, budget.threads
    found = [(e, e.result) for e in sweep.entries if e.result and _made_for(e, e.result) == wanted]
    if not found:
        where = ("--target", budget.target, "--device", budget.device, "--threads", str(budget.threads))
        command = ("wdp-edge", "prune", "--latency-budget", budget.latency or "50%", *where)
        raise InputError(
            f"No run of {sweep.folder} is for {' '.join(wanted[:2])} on {budget.device} with {budget.threads} threads.",
            f"Add one with: {' '.join(command)}",
        )
    inside = [pair for pair in found if _inside(pair[1], budget)]
    return _slowest(inside) if inside else found[0][0]


def _made_for(entry: SweepEntry, result: PruneResult) -> tuple[str, str, str, int]:
    return entry.target, result.precision, entry.device, run_recipe(result.run).prune.threads


def _inside(result: PruneResult, budget: BudgetRecipe) -> bool:
    fast = not budget.latency or result.time_ms <= parse_budget(budget.latency).resolve(result.dense.latency_ms.p50)
    return fast and (not budget.size or (result.shipped.bytes or 0) <= parse_bytes(budget.size))


def _slowest(found: Sequence[tuple[SweepEntry, PruneResult]]) -> SweepEntry:
    return max(found, key=lambda pair: pair[1].time_ms)[0]
