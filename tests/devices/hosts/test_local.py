"""wdp_edge/devices/hosts/local.py: this machine does all that a host must."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_contract import HostContract

from wdp_edge.devices.hosts.local import LocalHost
from wdp_edge.errors import SetupError


class TestLocalHost(HostContract):
    @pytest.fixture
    def host(self, tmp_path_factory: pytest.TempPathFactory) -> LocalHost:
        return LocalHost(folder=tmp_path_factory.mktemp("host") / "a work folder")


def test_a_place_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="Cannot write"):
        LocalHost(folder=tmp_path / "file" / "work").workdir()
