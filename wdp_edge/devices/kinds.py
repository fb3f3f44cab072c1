"""The kinds of device that wdp-edge brings. They are entry points; a package of others' adds its own in the same way.

Nothing is imported before a device is asked for: the recipe's check reads the names alone.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.protocols.device import LOCAL as LOCAL_NAME
from wdp_edge.protocols.device import Device, DeviceKind

if TYPE_CHECKING:
    from wdp_edge.devices.hosts.host import Host


def _local(name: str) -> Device:
    from wdp_edge.devices.local import LocalDevice

    return LocalDevice(native_memory)


def native_memory(target: str, artifact: Path, threads: int) -> int:
    """Bytes of the native runner's process on this machine; see `RemoteDevice.peak_memory`."""
    from wdp_edge.devices.hosts.local import LocalHost
    from wdp_edge.devices.remote import RemoteDevice

    with tempfile.TemporaryDirectory(dir=LocalHost().workdir()) as folder:
        return RemoteDevice(LocalHost(LOCAL_NAME, Path(folder))).peak_memory(target, artifact, threads)


def _apple(name: str) -> Device:
    from wdp_edge.devices.apple.device import AppleDevice

    return AppleDevice(name)


def _ssh(address: str) -> Host:
    from wdp_edge.devices.hosts.ssh import SshHost

    return SshHost(address)


def _adb(serial: str) -> Host:
    from wdp_edge.devices.hosts.adb import AdbHost

    return AdbHost(serial)


def _qemu(cpu: str) -> Host:
    from wdp_edge.devices.qemu import QemuHost

    return QemuHost(cpu)


def reached_by(host: Callable[[str], Host], form: str, own_runner: bool = True) -> DeviceKind:
    """Devices that a host reaches, with wdp-edge's own runners. form: of their names.

    host: makes the host of what follows the colon; raises InputError for an address that it does not take.
    own_runner: whether a program of the user's can time files there, too.
    """

    @functools.cache
    def reached(name: str) -> Host:
        return host(name.partition(":")[2])

    @functools.cache
    def make(name: str) -> Device:
        from wdp_edge.devices.remote import RemoteDevice

        return RemoteDevice(reached(name))

    def with_runner(name: str, runner: Path) -> Device:
        from wdp_edge.devices.own_runner import OwnRunner

        return OwnRunner(reached(name), runner)

    return DeviceKind((form,), make, with_runner if own_runner else None)


LOCAL = DeviceKind(("local",), _local)
SSH = reached_by(_ssh, "ssh:user@host[:port]")
ADB = reached_by(_adb, "adb:SERIAL")
QEMU = reached_by(_qemu, "qemu:CPU", own_runner=False)
APPLE = DeviceKind(("apple", "apple:UNITS", "apple:UDID[:UNITS]"), _apple)
