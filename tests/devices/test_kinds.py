"""wdp_edge/devices/kinds.py: names, and the devices that they stand for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wdp_edge.devices.hosts.host import Host
from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.devices.kinds import reached_by
from wdp_edge.devices.own_runner import OwnRunner
from wdp_edge.devices.remote import RemoteDevice
from wdp_edge.errors import InputError
from wdp_edge.protocols.device import get_device


def test_devices_by_name() -> None:
    assert get_device("local").name == "local"
    assert get_device("ssh:pi@board") is get_device("ssh:pi@board"), "one connection for all that a session does"
    for name in ("toaster", "ssh", "board:x", "", "SSH:pi@board"):
        with pytest.raises(InputError, match=r"Known devices: local|not an address"):
            get_device(name)


def test_a_host_is_made_once_of_what_follows_the_colon(tmp_path: Path) -> None:
    made: list[str] = []

    def host(address: str) -> Host:
        made.append(address)
        return LocalHost(f"board:{address}", tmp_path)

    kind = reached_by(host, "board:ADDRESS")
    device = kind.make("board:a:b")
    assert isinstance(device, RemoteDevice) and device is kind.make("board:a:b") and device.name == "board:a:b"
    assert kind.with_runner is not None and isinstance(kind.with_runner("board:a:b", Path("program")), OwnRunner)
    assert made == ["a:b"] and kind.forms == ("board:ADDRESS",)
    assert reached_by(host, "board:ADDRESS", own_runner=False).with_runner is None


def test_names_are_known_without_the_means_to_reach_them() -> None:
    code = (
        "import sys; from wdp_edge.protocols.device import kind_of; "
        "[kind_of(name) for name in ('local', 'ssh:pi@board', 'adb:X', 'qemu:cortex-a55', 'apple:cpu')]; "
        "print({'torch', 'wdp_edge.devices.remote', 'wdp_edge.devices.hosts.ssh'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
