"""Where artifacts run and are timed."""

from __future__ import annotations

from wdp_edge.device import Device
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError

_DEVICES = {LocalDevice.name: LocalDevice}


def device_names() -> list[str]:
    return sorted(_DEVICES)


def get_device(name: str) -> Device:
    """The device called `name`. Raises InputError for an unknown one."""
    if name not in _DEVICES:
        raise InputError(f"There is no device '{name}'.", f"Known devices: {', '.join(device_names())}.")
    return _DEVICES[name]()
