"""The Vulkan driver that runtimes' GPU accelerators compute with: this machine's, or a software one in the cache."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from wdp_edge.runners.runtimes import cache_folder

DRIVER, LOADER = "vk_swiftshader_icd.json", "libvulkan.so.1"
FILES = (DRIVER, "libvk_swiftshader.so", LOADER)
"""Of the software driver, SwiftShader: its description, itself, and what finds drivers by their descriptions."""
_CHOSEN = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
_DESCRIPTIONS = ("etc/vulkan/icd.d/*.json", "usr/share/vulkan/icd.d/*.json", "usr/local/share/vulkan/icd.d/*.json")
_NODES = ("dev/dri/renderD*", "dev/nvidia[0-9]*")


def driver_folder() -> Path:
    """Where `wdp-edge devices setup gpu` puts the software driver."""
    return cache_folder() / "vulkan"


def has_software_driver() -> bool:
    return all((driver_folder() / name).is_file() for name in FILES)


def has_gpu(root: Path = Path("/")) -> bool:
    """Whether this machine shows a GPU and a Vulkan driver, or the environment names a driver, which then decides."""
    if any(os.environ.get(name) for name in _CHOSEN):
        return True
    return all(any(any(root.glob(place)) for place in places) for places in (_NODES, _DESCRIPTIONS))


def find_driver() -> None:
    """Lets this process find the software driver where there is no GPU. Before anything in it uses Vulkan."""
    if has_gpu() or not has_software_driver():
        return
    for name in _CHOSEN:
        os.environ[name] = str(driver_folder() / DRIVER)
    # Whoever asks for the loader by name gets this one, as it is loaded already.
    ctypes.CDLL(str(driver_folder() / LOADER), ctypes.RTLD_GLOBAL)
