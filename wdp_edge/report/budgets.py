"""A budget in words: what a file takes of it, by time or by count."""

from __future__ import annotations

from wdp_edge.config.values import Quantity
from wdp_edge.cost.table import LatencyTable
from wdp_edge.protocols.device import Kind
from wdp_edge.report.units import SPACE, milliseconds, quantity, share, significant
from wdp_edge.runs.figures import BudgetFigures


def taken(budget: BudgetFigures) -> str:
    """What counts for the budget of what ships: "3.9 ms", "1.03 G MACs"."""
    if budget.counted:
        return _count(budget.counted.quantity, budget.counted.count)
    return milliseconds(budget.measured_ms or 0.0)


def allowed(budget: BudgetFigures) -> str:
    if budget.counted:
        return _count(budget.counted.quantity, budget.counted.limit)
    return milliseconds(budget.latency_ms or 0.0)


def over(budget: BudgetFigures) -> str:
    """By how much a budget is missed."""
    if counted := budget.counted:
        return _count(counted.quantity, counted.count - counted.limit)
    return milliseconds((budget.measured_ms or 0.0) - (budget.latency_ms or 0.0))


def budget_line(budget: BudgetFigures) -> str:
    figures = f"{taken(budget)} of {allowed(budget)} ({share(budget.ratio, 1)})"
    by = "" if budget.counted or budget.kind is Kind.MEASURED else f" in {budget.kind} time"
    return f"Inside the budget{by}: {figures}." if budget.met else f"Over the budget{by} by {over(budget)}: {figures}."


def how(budget: BudgetFigures, kind: Kind) -> str:
    """In which way what is taken is known: "measured", "virtual time", "counted". kind: of the file's time."""
    if budget.counted:
        return "counted"
    return "measured" if kind is Kind.MEASURED else f"{kind} time"


def amount(value: float, table: LatencyTable | None) -> str:
    """A cost by the table; without one, ms."""
    unit = table.unit if table else "ms"
    return milliseconds(value) if unit == "ms" else f"{significant(value)}{SPACE}{unit}"


def _count(counted: Quantity, value: int) -> str:
    return f"{quantity(value)}{SPACE}{counted.words}"
