"""What `devices setup gpu` fetches, without root: a software Vulkan driver, for machines without a GPU."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from wdp_edge.devices.apt import apt_get, named_files, unpack
from wdp_edge.devices.setup import Step
from wdp_edge.errors import SetupError
from wdp_edge.io.files import atomic_folder
from wdp_edge.runners.vulkan import FILES, driver_folder, has_software_driver

_PACKAGE = "chromium-common"  # Debian has SwiftShader in no package of its own
_PLACE = "usr/lib/chromium"
_LACKING = SetupError(
    "There is no apt-get to get a software Vulkan driver with.",
    "Install a Vulkan driver with this system's package manager.",
)


def gpu_steps() -> list[Step]:
    """What is left to do until `--unit gpu` works without a GPU; [] when nothing is.

    Raises SetupError where the package index cannot be read.
    """
    if has_software_driver():
        return []
    with tempfile.TemporaryDirectory(prefix="wdp-edge-apt-") as folder:
        files = named_files(apt_get(Path(folder), ["download", "--print-uris", _PACKAGE], _LACKING))
    title = f"Unpack SwiftShader, a software Vulkan driver, from {_PACKAGE} into {driver_folder()}"
    return [Step(title, tuple(name for name, _ in files), sum(size for _, size in files), fetch)]


def fetch() -> None:
    """Raises SetupError when the package cannot be had or holds no driver."""
    driver_folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wdp-edge-apt-") as name, atomic_folder(driver_folder()) as made:
        folder = Path(name)
        apt_get(folder, ["download", _PACKAGE], _LACKING)
        for archive in folder.glob("*.deb"):
            unpack(archive, folder / "root")
        place = folder / "root" / _PLACE
        if lost := [file for file in FILES if not (place / file).is_file()]:
            raise SetupError(
                f"{_PACKAGE} of this system has no {lost[0]}.",
                f"Take {', '.join(FILES)} from another release of Debian into {driver_folder()}.",
            )
        made.mkdir()
        for file in FILES:
            shutil.copyfile(place / file, made / file)
