"""wdp_edge/protocols/device.py: kinds of device of other packages, found as a user's would be."""

from __future__ import annotations

from pathlib import Path

import pytest
from installed import install

from wdp_edge.config.file import load_recipe
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.device import GROUP, check_pair, get_device, kind_of, runs_on

SOURCE = """
from wdp_edge.devices.local import LocalDevice
from wdp_edge.protocols.device import DeviceKind

class BenchDevice(LocalDevice):
    targets = ("onnx",)
    def __init__(self, name, runner=None):
        super().__init__()
        self.name, self.runner = name, runner

KIND = DeviceKind(("bench", "bench:NUMBER"), BenchDevice, BenchDevice)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def bench(packages: Path) -> None:
    install(packages, "wdp_edge_bench", SOURCE, GROUP, "bench = wdp_edge_bench:KIND")


@pytest.mark.usefixtures("bench")
def test_a_kind_of_device_of_another_package(tmp_path: Path) -> None:
    assert get_device("bench").name == "bench" and get_device("bench:3").name == "bench:3"
    assert vars(get_device("bench:3", runner="/usr/bin/true"))["runner"] == Path("/usr/bin/true")
    (tmp_path / "wdp-edge.toml").write_text("[prune]\ndevice = 'bench:3'\n")
    assert load_recipe(tmp_path / "wdp-edge.toml").prune.device == "bench:3"
    for wrong in ("bench:", "benches", ":3", "fax:3"):
        with pytest.raises(InputError, match=r"Known devices: local, adb:SERIAL, .*bench, bench:NUMBER, "):
            get_device(wrong)


@pytest.mark.usefixtures("bench")
def test_a_device_for_few_targets_refuses_the_others() -> None:
    device = get_device("bench")
    check_pair(device, "onnx")
    with pytest.raises(InputError, match="'bench' times files of target 'onnx' only, not of 'tflite'"):
        check_pair(device, "tflite")
    assert runs_on(get_device("local"), "tflite") and not runs_on(device, "tflite")


def test_a_kind_that_cannot_be_imported_names_its_package(packages: Path) -> None:
    install(packages, "wdp_edge_broken", "import nothing_of_this_name\n", GROUP, "broken = wdp_edge_broken:KIND")
    with pytest.raises(SetupError, match=r"'broken' cannot be imported: .*nothing_of_this_name.*wdp_edge_broken needs"):
        kind_of("broken:1")
    assert get_device("local").name == "local", "others work beside it"
    with pytest.raises(InputError, match=r"no device 'fax:3'.*adb:SERIAL, .*broken:…"):
        get_device("fax:3")


def test_devices_that_time_with_no_program_of_the_users() -> None:
    for name in ("local", "qemu:cortex-a55"):
        with pytest.raises(InputError, match=f"'{name}' takes no runner of your own"):
            get_device(name, runner="/usr/bin/true")
