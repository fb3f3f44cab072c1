"""The unit of the device that computes a file: a kind of file for GPUs, a part of the device's name for Apple's."""

from __future__ import annotations

from dataclasses import replace

from wdp_edge.config.recipe import Recipe
from wdp_edge.errors import InputError
from wdp_edge.protocols.target import on_unit

_APPLE = "apple"


def with_unit(recipe: Recipe, unit: str | None) -> Recipe:
    """The recipe with every target and device for this unit; as it is for None.

    Raises InputError for a unit that a target has no files for, or that a device is said not to use.
    """
    if unit is None:
        return recipe
    own = recipe.prune
    devices = own.device.split(",")
    if all(name.partition(":")[0] == _APPLE for name in devices):
        return replace(recipe, prune=replace(own, device=",".join(on_apple(name, unit) for name in devices)))
    targets = ",".join(on_unit(name, unit) for name in own.target.split(","))
    return replace(recipe, prune=replace(own, target=targets))


def on_apple(name: str, unit: str) -> str:
    """An Apple device with the units that Core ML may use: "apple" on "cpu+ne" is "apple:cpu+ne"."""
    from wdp_edge.devices.apple.device import UNITS, parse_name

    if unit not in UNITS:
        raise InputError(f"Core ML has no units '{unit}'.", f"It has: {', '.join(UNITS)}.")
    udid, units = parse_name(name)
    if name.endswith(f":{units}") and units != unit:
        raise InputError(f"The device '{name}' does not use the unit '{unit}'.", "Leave one of the two out.")
    return ":".join([_APPLE, *([udid] if udid else []), unit])
