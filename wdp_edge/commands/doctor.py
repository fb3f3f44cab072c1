"""What this machine has of what wdp-edge can use, and the command that installs what is missing."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError

from wdp_edge.devices.hosts.host import run_process
from wdp_edge.errors import SetupError
from wdp_edge.protocols.target import Target, target_class, target_names
from wdp_edge.protocols.target import install_command as install_of
from wdp_edge.runners.vulkan import has_gpu, has_software_driver
from wdp_edge.runs.results import RESULT_VERSION

_SECONDS = 20.0
_ARM = "aarch64-linux-gnu-g++"


@dataclass(frozen=True)
class Check:
    """One thing that may be missing.

    use: what it is for. found: its version, "" when it is not there. install: the command that installs it, "" when
    it is there or cannot be installed here. problem: why something that is there does not work.
    """

    name: str
    use: str
    found: str
    install: str
    problem: str = ""


@dataclass(frozen=True)
class DoctorResult:
    """`wdp_edge.doctor`: toolkits of the targets, compilers of the runners, and what reaches devices."""

    toolkits: tuple[Check, ...]
    compilers: tuple[Check, ...]
    devices: tuple[Check, ...]
    version: int = RESULT_VERSION

    @property
    def missing(self) -> tuple[Check, ...]:
        return tuple(c for c in (*self.toolkits, *self.compilers, *self.devices) if not c.found)


@dataclass(frozen=True)
class Tool:
    """A program. asked: arguments that make it tell its version. packages: by the installer that has them."""

    name: str
    use: str
    asked: tuple[str, ...]
    packages: dict[str, str]


# In the order in which they are looked for.
INSTALLERS = {
    "apt-get": "sudo apt-get install",
    "dnf": "sudo dnf install",
    "pacman": "sudo pacman -S",
    "brew": "brew install",
}

COMPILERS = (
    Tool(
        "cmake",
        "building native runners",
        ("--version",),
        {"apt-get": "cmake", "dnf": "cmake", "pacman": "cmake", "brew": "cmake"},
    ),
    Tool("g++", "building native runners", ("--version",), {"apt-get": "g++", "dnf": "gcc-c++", "pacman": "gcc"}),
    Tool(
        _ARM,
        "building native runners for 64-bit Arm",
        ("--version",),
        {"apt-get": "g++-aarch64-linux-gnu", "pacman": "aarch64-linux-gnu-gcc"},
    ),
)

REACH = (
    Tool(
        "ssh",
        "devices named ssh:user@host",
        ("-V",),
        {"apt-get": "openssh-client", "dnf": "openssh-clients", "pacman": "openssh", "brew": "openssh"},
    ),
    Tool(
        "scp",
        "devices named ssh:user@host",
        (),
        {"apt-get": "openssh-client", "dnf": "openssh-clients", "pacman": "openssh", "brew": "openssh"},
    ),
    Tool(
        "adb",
        "devices named adb:SERIAL",
        ("version",),
        {"apt-get": "adb", "dnf": "android-tools", "pacman": "android-tools", "brew": "--cask android-platform-tools"},
    ),
    Tool(
        "qemu-aarch64",
        "devices named qemu:CPU",
        ("--version",),
        {"apt-get": "qemu-user", "dnf": "qemu-user", "pacman": "qemu-user"},
    ),
)
# Part of Xcode, which no installer has. The device `apple` needs a Mac with the target coreml, no more.
XCODE = Tool("xcrun", "devices named apple:UDID, by Xcode", ("devicectl", "--version"), {})


def doctor() -> DoctorResult:
    """Looks for everything; what is missing or broken is part of the result, never an error."""
    compilers = COMPILERS if platform.machine() not in ("aarch64", "arm64") else COMPILERS[:-1]
    return DoctorResult(
        toolkits=tuple(check_toolkit(name) for name in target_names()),
        compilers=tuple(check_tool(tool) for tool in compilers),
        devices=(
            *(check_tool(tool) for tool in (*REACH, *([XCODE] if platform.system() == "Darwin" else []))),
            *([check_driver()] if platform.system() == "Linux" else []),
        ),
    )


def check_driver() -> Check:
    """What computes files for GPUs here."""
    found = "SwiftShader, in software" if has_software_driver() else ""
    found = "of this machine's GPU" if has_gpu() else found
    return Check("Vulkan driver", "files of target tflite:gpu", found, "" if found else "wdp-edge devices setup gpu")


def check_toolkit(name: str) -> Check:
    """The packages of a target."""
    use = f"files of target {name}"
    try:
        target: Target = target_class(name)()
    except SetupError as error:  # an adapter of somebody else's
        return Check(name, use, "", "", problem=error.message)
    if missing := target.missing():
        return Check(name, use, "", install_of(name, missing))
    return Check(name, use, _versions(target), "")


def check_tool(tool: Tool) -> Check:
    """A program that is there but does not answer counts as missing, with its problem."""
    if shutil.which(tool.name) is None:
        return Check(tool.name, tool.use, "", install_command(tool.packages))
    if not tool.asked:
        return Check(tool.name, tool.use, "found", "")
    try:
        done = run_process([tool.name, *tool.asked], tool.name, _SECONDS)
    except SetupError as error:
        return Check(tool.name, tool.use, "", "", problem=error.message)
    said = (done.out or done.err).strip().splitlines()
    if done.code != 0 or not said:
        return Check(tool.name, tool.use, "", "", problem=f"{tool.name} ends with exit code {done.code}.")
    return Check(tool.name, tool.use, said[0].strip(), "")


def install_command(packages: dict[str, str], installers: Sequence[str] = tuple(INSTALLERS)) -> str:
    """What installs it with the installer that this system has; "" when none of them has it."""
    for installer in installers:
        if installer in packages and shutil.which(installer) is not None:
            return f"{INSTALLERS[installer]} {packages[installer]}"
    return ""


def _versions(target: Target) -> str:
    try:
        found = target.versions()
    except PackageNotFoundError as error:
        return f"incomplete: no package {error.name}"
    return ", ".join(f"{name} {number}" for name, number in found.items() if name != "wdp-edge")
