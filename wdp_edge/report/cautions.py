"""What to know when reading a figure: how the device was, and what was not checked."""

from __future__ import annotations

from wdp_edge.protocols.device import Conditions, Latency
from wdp_edge.runs.figures import BudgetFigures


def device_rows(conditions: Conditions | None) -> list[tuple[str, str]]:
    """What the device showed of itself before and after."""
    if conditions is None:
        return []
    known = (("temperature", conditions.temperature, ".1f", "°C"), ("clock", conditions.clock_mhz, ".0f", "MHz"))
    return [(name, f"{pair[0]:{form}} → {pair[1]:{form}} {unit}") for name, pair, form, unit in known if pair]


def slowed_down(conditions: Conditions | None) -> str:
    """A warning when the figures are not those of a rested device; "" otherwise."""
    if conditions is None or conditions.throttled is None:
        return ""
    return f"the device slowed down: {conditions.throttled}. Let it rest: cooldown_seconds in [prune.timing]."


def cautions(latency: Latency) -> list[str]:
    """What to know when reading a figure: a device that slowed down, and a program that is not wdp-edge's own."""
    slow = slowed_down(latency.conditions)
    return ([f"Warning: {slow}"] if slow else []) + ([f"Note: {latency.caveat}."] if latency.caveat else [])


def two_times(budget: BudgetFigures, latency: Latency) -> str:
    """Why the time that counts for the budget is not the shipped file's p50; "" where it is.

    latency: the shipped file's.
    """
    from wdp_edge.report.units import milliseconds

    if budget.basis != "rounds" or budget.measured_ms is None:
        return ""
    if milliseconds(budget.measured_ms) == milliseconds(latency.p50):
        return ""
    return (
        f"Note: the budget is a share, so what counts is the ratio of the file's time to the dense file's in "
        f"interleaved rounds, times the dense file's p50: {milliseconds(budget.measured_ms)}. Its own p50 over all "
        f"runs, {milliseconds(latency.p50)}, includes what other work on the machine took."
    )
