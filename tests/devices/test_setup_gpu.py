"""What `devices setup gpu` would fetch, and what is said where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from software_gpu import make_driver_ready

from wdp_edge.devices import setup_gpu
from wdp_edge.devices.setup_gpu import gpu_steps
from wdp_edge.errors import SetupError
from wdp_edge.runners.vulkan import FILES, driver_folder, has_gpu


def test_the_step_names_the_package_and_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    said = "'http://x/chromium-common_1.deb' chromium-common_1.deb 31612580 SHA256:0"
    monkeypatch.setattr(setup_gpu, "apt_get", lambda folder, words, lacking: said)
    (step,) = gpu_steps()
    assert step.files == ("chromium-common_1.deb",) and step.bytes == 31612580 and "SwiftShader" in step.title


def test_a_package_without_the_driver_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr(setup_gpu, "apt_get", lambda folder, words, lacking: "")
    with pytest.raises(SetupError, match=r"chromium-common of this system has no vk_swiftshader_icd.json"):
        gpu_steps()[0].perform()
    assert not driver_folder().exists()


def test_what_was_fetched_is_not_planned_again() -> None:
    make_driver_ready()
    if has_gpu():
        pytest.skip("this machine has a GPU")
    assert gpu_steps() == [] and {path.name for path in driver_folder().iterdir()} == set(FILES)
