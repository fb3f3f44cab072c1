"""Which Vulkan driver a process gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wdp_edge.runners import vulkan
from wdp_edge.runners.vulkan import FILES, driver_folder, find_driver, has_gpu, has_software_driver


@pytest.fixture(autouse=True)
def nothing_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.delenv(name, raising=False)


def test_a_gpu_needs_a_driver_or_a_word_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(place: str) -> None:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()

    put("usr/share/vulkan/icd.d/lvp_icd.json")
    put("dev/dri/card0")  # a screen, perhaps without anything that computes
    assert not has_gpu(tmp_path)
    put("dev/dri/renderD128")
    assert has_gpu(tmp_path)
    (tmp_path / "usr/share/vulkan/icd.d/lvp_icd.json").unlink()
    assert not has_gpu(tmp_path)  # a GPU without a Vulkan driver: the software driver serves
    monkeypatch.setenv("VK_DRIVER_FILES", "/some/icd.json")
    assert has_gpu(tmp_path / "nothing")


def test_the_software_driver_is_there_when_all_of_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    driver_folder().mkdir(parents=True)
    for name in FILES:
        assert not has_software_driver()
        (driver_folder() / name).touch()
    assert has_software_driver()


def test_a_machine_with_a_gpu_keeps_its_own_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vulkan, "has_gpu", lambda: True)
    monkeypatch.setattr(vulkan, "has_software_driver", lambda: True)
    find_driver()
    assert "VK_DRIVER_FILES" not in os.environ
