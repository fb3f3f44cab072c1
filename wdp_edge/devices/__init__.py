"""Where artifacts run and are timed.

A further way to reach a device is a `Host` in a file of its own, named here.
"""

from __future__ import annotations

import functools
from pathlib import Path

from wdp_edge.device import Device
from wdp_edge.devices.apple import AppleDevice
from wdp_edge.devices.host import Host
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError

_APPLE = (AppleDevice.scheme, "apple:UNITS", "apple:UDID[:UNITS]")
FORMS = (LocalDevice.name, "ssh:user@host[:port]", "adb:SERIAL", "qemu:CPU", *_APPLE)


def check_device(name: str) -> None:
    """Raises InputError for a name that has none of FORMS; nothing is connected."""
    scheme, colon, rest = name.partition(":")
    alone = name in (LocalDevice.name, AppleDevice.scheme)
    if not alone and not (colon and rest and any(form.startswith(f"{scheme}:") for form in FORMS)):
        raise InputError(f"There is no device '{name}'.", f"Known devices: {', '.join(FORMS)}.")


def get_device(name: str, runner: str = "") -> Device:
    """The device called `name`, in one of FORMS; nothing is connected yet, and one name is one device.

    runner: the path of a program of the user's that times files there; "" for wdp-edge's own means.
    Raises InputError for a name of no device, or one that can run no such program, SetupError for Apple's anywhere but
    on a Mac.
    """
    check_device(name)
    if runner:
        return _with_runner(name, runner)
    if name.partition(":")[0] == AppleDevice.scheme:
        return AppleDevice(name)
    return LocalDevice() if name == LocalDevice.name else _remote(name)


def check_pair(device: Device, target: str) -> None:
    """Raises InputError for files that the device does not run."""
    if not runs_on(device, target):
        raise InputError(
            f"The device '{device.name}' times files of target '{AppleDevice.target}' only, not of '{target}'.",
            f"Take the target {AppleDevice.target}, or the device {LocalDevice.name}.",
        )


def runs_on(device: Device, target: str) -> bool:
    """Apple's devices run Core ML packages only; what another device lacks, its host says."""
    return not isinstance(device, AppleDevice) or target == AppleDevice.target


def _with_runner(name: str, runner: str) -> Device:
    from wdp_edge.devices.own_runner import OwnRunner

    if not name.startswith(("ssh:", "adb:")):
        raise InputError(
            f"Device '{name}' takes no runner of your own.", "Name a device ssh:… or adb:…, or leave it out."
        )
    return OwnRunner(_host(name), Path(runner))


@functools.cache
def _remote(name: str) -> Device:
    from wdp_edge.devices.remote import RemoteDevice

    return RemoteDevice(_host(name))


@functools.cache
def _host(name: str) -> Host:
    scheme, _, rest = name.partition(":")
    if scheme == "ssh":
        from wdp_edge.devices.ssh import SshHost

        return SshHost(rest)
    if scheme == "adb":
        from wdp_edge.devices.adb import AdbHost

        return AdbHost(rest)
    from wdp_edge.devices.qemu import QemuHost

    return QemuHost(rest)
