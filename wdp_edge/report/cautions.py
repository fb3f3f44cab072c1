"""What has to be read with a figure, in words: how the device was, and what nobody checked."""

from __future__ import annotations

from wdp_edge.device import Conditions, Latency


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
    """What has to be read with a figure: a device that slowed down, and a program that is not wdp-edge's own."""
    slow = slowed_down(latency.conditions)
    return ([f"Warning: {slow}"] if slow else []) + ([f"Note: {latency.caveat}."] if latency.caveat else [])
