"""What `devices setup qemu` fetches and makes, without root: the emulator, the cross compiler, runtimes, runners."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wdp_edge.devices.apt import apt_get, named_files, unpack
from wdp_edge.devices.qemu import ARCH, EMULATOR, plugin_interface
from wdp_edge.errors import SetupError
from wdp_edge.io.files import atomic_folder
from wdp_edge.runners.build import bundle, find_tool, plugin, tool, tools_folder
from wdp_edge.runners.runtimes import (
    RUNTIMES,
    Runtime,
    fetched_folder,
    is_installed,
    package_folder,
    pip_words,
    run_pip,
)

_CROSS = f"{ARCH}-linux-gnu-"
_HEAD_SECONDS = 20.0
_WRAPPER = """#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/../root
LD_LIBRARY_PATH=$root/usr/lib/{machine}-linux-gnu exec "$root/usr/bin/{name}"{words} "$@"
"""


@dataclass(frozen=True)
class Step:
    """One thing to do. files: what it downloads; bytes: of these, None when that is not known before.

    perform: does it; raises SetupError when it fails. A step that was done before is not planned again.
    """

    title: str
    files: tuple[str, ...]
    bytes: int | None
    perform: Callable[[], None]


def qemu_steps() -> list[Step]:
    """What is left to do until the devices `qemu:CPU` can be used, in this order; [] when nothing is.

    Nothing is changed on this machine but wdp-edge's cache, and nothing is downloaded to tell the steps but package
    indexes. Raises SetupError where it cannot be done: no Linux, no compiler, no apt-get for what is missing.
    """
    for name in ("cmake", "gcc", "g++"):
        tool(name)
    ready = [name for name, runtime in RUNTIMES.items() if is_installed(runtime)]
    steps = [*tool_steps(), *wheel_steps([name for name in ready if not is_fetched(name)])]
    if steps:
        steps.append(Step(f"Build the {ARCH} runners and the emulator's plugin", (), 0, lambda: make(ready)))
    return steps


def is_fetched(target: str) -> bool:
    """Whether the runtime of a target is here for the emulated CPU."""
    return platform.machine() == ARCH or fetched_folder(RUNTIMES[target], ARCH).is_dir()


def make(targets: Sequence[str]) -> None:
    plugin(plugin_interface(tool(EMULATOR)))
    for target in targets:
        bundle(target, ARCH)


# --- the emulator and the cross compiler ---


def tool_steps() -> list[Step]:
    """None when both are installed or were unpacked before."""
    packages = {EMULATOR: "qemu-user"}
    if platform.machine() != ARCH:
        packages[f"{_CROSS}g++"] = f"g++-{ARCH}-linux-gnu"
    if all(find_tool(name) for name in packages):
        return []
    # What was unpacked before is replaced, so all that the system lacks is unpacked again.
    wanted = [package for name, package in packages.items() if shutil.which(name) is None]
    found = apt_files(wanted)
    title = f"Unpack {' and '.join(wanted)} and what they need into {tools_folder()}"
    sizes = sum(size for _, size in found)
    return [Step(title, tuple(name for name, _ in found), sizes, lambda: unpack_packages(wanted))]


def apt_files(packages: Sequence[str]) -> list[tuple[str, int]]:
    """Names and bytes of the packages and of all that they need and the system lacks."""
    with tempfile.TemporaryDirectory(prefix="wdp-edge-apt-") as folder:
        said = apt_install(Path(folder), ["--print-uris", *packages])
    return named_files(said)


def unpack_packages(packages: Sequence[str]) -> None:
    """Downloads packages and unpacks them into the cache; the system's own packages stay as they are."""
    tools_folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wdp-edge-apt-") as name, atomic_folder(tools_folder()) as folder:
        apt_install(Path(name), ["--download-only", *packages])
        root = folder / "root"
        root.mkdir(parents=True)
        for archive in sorted(Path(name).glob("cache/archives/*.deb")):
            unpack(archive, root)
        relocate(root)
        (folder / "bin").mkdir()
        for program in (EMULATOR, f"{_CROSS}gcc", f"{_CROSS}g++"):
            if (root / "usr/bin" / program).exists():
                wrapper = folder / "bin" / program
                wrapper.write_text(wrapper_of(program))
                wrapper.chmod(0o755)


def wrapper_of(program: str) -> str:
    """A script that runs a program with the libraries beside it."""
    # The emulated program is not to see the libraries of the emulator.
    words = " -U LD_LIBRARY_PATH" if program == EMULATOR else ""
    return _WRAPPER.format(machine=platform.machine(), name=program, words=words)


def relocate(root: Path) -> None:
    """Lets the linker find the libraries where they were unpacked: its scripts name them by their installed paths."""
    installed_at = f"/usr/{ARCH}-linux-gnu/lib/"
    for script in (root / installed_at[1:]).glob("*.so"):
        if script.is_file() and not script.is_symlink() and script.read_bytes()[:13] == b"/* GNU ld scr":
            script.write_text(script.read_text().replace(installed_at, ""))


def apt_install(folder: Path, words: Sequence[str]) -> str:
    """apt-get's stdout for an installation that is only simulated or downloaded. folder: for its files."""
    lacking = SetupError(
        f"{EMULATOR} or {_CROSS}g++ is not installed, and there is no apt-get to get them with.",
        "Install qemu's user mode and the cross compiler with this system's package manager.",
    )
    return apt_get(folder, ["install", *words], lacking)


# --- the runtimes' wheels ---


def wheel_steps(targets: Sequence[str]) -> list[Step]:
    """One for each target: the wheel of the installed version for the emulated CPU."""
    steps = []
    for target, url in zip(targets, wheel_urls(targets), strict=True):
        runtime = RUNTIMES[target]
        title = f"Fetch {runtime.package} {runtime.version} for {ARCH}"
        name = url.rpartition("/")[2]
        steps.append(Step(title, (name,), size_of_url(url), partial(fetch, runtime)))
    return steps


def fetch(runtime: Runtime) -> None:
    package_folder(runtime, ARCH)


def wheel_urls(targets: Sequence[str]) -> list[str]:
    """Where pip would get the wheels from."""
    if not targets:
        return []
    runtimes = [RUNTIMES[target] for target in targets]
    wanted = [f"{r.package}=={r.version}" for r in runtimes]
    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as nothing:
        report = ["--dry-run", "--ignore-installed", "--target", nothing, "--report", "-"]
        said = run_pip(["install", "--quiet", *report, *pip_words(ARCH), *wanted], f"{ARCH} wheels")
    found = json.loads(said)["install"]
    urls = {item["metadata"]["name"].lower().replace("_", "-"): item["download_info"]["url"] for item in found}
    return [urls[r.package] for r in runtimes]


def size_of_url(url: str) -> int | None:
    """Size of what is at a web address; None when the server does not say."""
    if not url.startswith("https://"):
        return None
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=_HEAD_SECONDS) as reply:
            length = reply.headers.get("Content-Length")
    except OSError:
        return None  # an index that asks for a login, for example; pip knows how to log in
    return int(length) if length and length.isdecimal() else None
