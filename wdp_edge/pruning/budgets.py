"""A recipe's budget in a run: the bench that it is kept on, what the dense file takes of it, and what is said of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wdp_edge.config.budgets import Budget
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.config.values import CountBudget, LatencyBudget
from wdp_edge.cost.counted import Counter
from wdp_edge.cost.measure import measure_table
from wdp_edge.cost.table import LatencyTable
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.device import Kind
from wdp_edge.pruning.bench import Bench, goal_of
from wdp_edge.pruning.counted import CountedBench
from wdp_edge.pruning.inputs import DenseModel, Inputs
from wdp_edge.pruning.timing import used_share
from wdp_edge.runs.figures import BudgetFigures, CountFigures
from wdp_edge.runs.run import Run
from wdp_edge.runs.stages import Measured


def counter_of(model: DenseModel, budget: CountBudget) -> Counter:
    """What models cut from this one have of what the budget counts."""
    return Counter(model.structure, model.geometry, budget)


def time_budget(budget: Budget) -> LatencyBudget:
    """What files are timed against: where the budget is none of time, the dense file's."""
    return LatencyBudget(share=1.0) if isinstance(budget, CountBudget) else budget


def may_ship_dense(options: PruneRecipe, model: DenseModel, budget: Budget) -> bool:
    """Whether the dense model may be inside the budget as it is, and nobody wants a pruned one all the same."""
    if options.force:
        return False
    if isinstance(budget, CountBudget):
        return counter_of(model, budget).used(model.structure) <= 1.0
    return budget.share is None or budget.share >= 1.0


def bench_of(inputs: Inputs, budget: Budget, run: Run, dense: Path) -> Bench:
    """Stage `table`, and the bench on which the budget is kept. dense: the dense model's file."""
    tools, model, options, scratch = inputs.tools, inputs.model, inputs.recipe.prune, run.path / "scratch"
    if isinstance(budget, CountBudget):
        counter = counter_of(model, budget)
        table = run.stage("table", LatencyTable, counter.table)
        goal = goal_of(options.select, counter.limit)
        return CountedBench(tools, inputs.data, time_budget(budget), goal, table, dense, scratch, counter)
    setting = tools.table_setting(model.spec, model.structure, options.table)
    table = run.stage("table", LatencyTable, partial(measure_table, setting, dense_artifact=dense))
    return Bench(
        tools, inputs.data, budget, goal_of(options.select, budget.resolve(table.dense_ms)), table, dense, scratch
    )


def figures_of(inputs: Inputs, budget: Budget, measured: Measured, structure: Structure) -> BudgetFigures:
    """structure: of what ships; measured: its file's time."""
    kind: Kind = inputs.tools.device.kind
    if isinstance(budget, CountBudget):
        counter = counter_of(inputs.model, budget)
        counted = CountFigures(budget.quantity, budget.limit(counter.dense), counter.count(structure))
        used = counter.used(structure)
        return BudgetFigures(None, None, used, used <= 1.0, kind, "count", counted)
    used = used_share(measured, budget)
    basis = "p50" if budget.share is None else "rounds"
    return BudgetFigures(measured.budget_ms, used * measured.budget_ms, used, used <= 1.0, kind, basis)
