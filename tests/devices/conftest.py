"""This machine as a device, reached in every way there is, and files for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_adbd import Adbd, start_adbd
from real_sshd import start_sshd

from wdp_edge.devices.hosts.adb import AdbHost
from wdp_edge.devices.hosts.host import Host
from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.devices.hosts.ssh import SshHost


@pytest.fixture(scope="module")
def adbd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adbd]:
    device = start_adbd(tmp_path_factory.mktemp("adbd"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{device.bin}:{os.environ['PATH']}")
        yield device
    device.stop()


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """`request.param` says how the device, which is this machine, is reached."""
    if request.param == "local":
        yield LocalHost(folder=tmp_path / "device")
    elif request.param == "adb":
        yield AdbHost(request.getfixturevalue("adbd").serial)
    else:
        server = start_sshd(tmp_path / "sshd")
        ssh = SshHost(server.address, server.config)
        yield ssh
        ssh.close()
        server.stop()


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Files of `small_net`, by their width."""
    from small_net import export_nets

    return export_nets(tmp_path_factory.mktemp("programs"))
