"""wdp_edge/commands/doctor.py: what is found on this machine, and what is said about what is not."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

import wdp_edge.protocols.target
from wdp_edge.commands import doctor as module
from wdp_edge.commands.doctor import (
    COMPILERS,
    INSTALLERS,
    REACH,
    Tool,
    check_driver,
    check_tool,
    check_toolkit,
    doctor,
    install_command,
)
from wdp_edge.commands.inspect import target_by_name
from wdp_edge.io.files import to_plain
from wdp_edge.protocols.target import GROUP, target_names


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_this_machine() -> None:
    result = doctor()
    assert [c.name for c in result.toolkits] == target_names()
    wanted = {"ssh", "adb", "qemu-aarch64"}
    present = {c.name for c in result.devices}
    assert wanted < present and ("xcrun" in present) == (platform.system() == "Darwin")
    programs = [check for check in (*result.compilers, *result.devices) if check.name != "Vulkan driver"]
    for check in programs:
        assert bool(check.found) == (shutil.which(check.name) is not None)
        assert not (check.found and check.install) and check.use
    executorch = next(c for c in result.toolkits if c.name == "executorch")
    assert "executorch 1." in executorch.found and "wdp-edge" not in executorch.found
    assert to_plain(result)["version"] == result.version == 1


def test_a_machine_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "apt-get", "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "system", lambda: "Darwin")  # a Mac is asked about Xcode too
    result = doctor()
    wanted = {c.name: c.install for c in (*result.compilers, *result.devices)}
    assert wanted["adb"] == "sudo apt-get install adb"
    assert wanted["cmake"] == "sudo apt-get install cmake"
    assert wanted["qemu-aarch64"] == "sudo apt-get install qemu-user"
    assert wanted["xcrun"] == "", "no installer has it"
    assert {c.name for c in result.missing} >= set(wanted)
    if "aarch64-linux-gnu-g++" in wanted:
        assert wanted["aarch64-linux-gnu-g++"] == "sudo apt-get install g++-aarch64-linux-gnu"


@pytest.mark.parametrize("tool", [t for t in (*COMPILERS, *REACH) if t.packages], ids=lambda t: t.name)
def test_debian_has_all_the_packages_that_are_named(tool: Tool) -> None:
    if shutil.which("apt-cache") is None:
        pytest.skip("apt-cache is only on Debian and its children")
    known = subprocess.run(["apt-cache", "pkgnames"], capture_output=True, text=True, check=True).stdout.split()
    if len(known) < 10_000:
        pytest.skip("the lists of packages are not there: apt-get update")
    assert tool.packages["apt-get"] in known


def test_the_first_installer_of_the_system_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packages = {"brew": "it", "dnf": "that"}
    assert install_command(packages) == ""
    program(tmp_path, "brew", "exit 1")
    assert install_command(packages) == "brew install it"
    program(tmp_path, "dnf", "exit 1")
    assert install_command(packages) == "sudo dnf install that"
    assert set(packages) <= set(INSTALLERS)


def test_a_tool_that_is_broken_is_missing_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(module, "_SECONDS", 0.5)
    tool = Tool("wdp-tool", "tests", ("--version",), {})
    program(tmp_path, "wdp-tool", "echo 1.2.3; echo more")
    assert check_tool(tool).found == "1.2.3"
    program(tmp_path, "wdp-tool", "echo 4.5 >&2")
    assert check_tool(tool).found == "4.5"
    program(tmp_path, "wdp-tool", "echo no; exit 3")
    assert (check_tool(tool).found, check_tool(tool).problem) == ("", "wdp-tool ends with exit code 3.")
    program(tmp_path, "wdp-tool", "sleep 60")
    assert "wdp-tool hung" in check_tool(tool).problem
    (tmp_path / "wdp-tool").write_text("#!/no/such/shell\n")
    assert "Cannot start wdp-tool" in check_tool(tool).problem


def test_a_toolkit_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def missing(self) -> list[str]:
            return ["onnx>=1.19"]

    monkeypatch.setattr(module, "target_class", lambda name: Absent)
    check = check_toolkit("onnx")
    assert (check.found, check.install, check.problem) == ("", "pip install 'wdp-edge[onnx]'", "")


def test_an_adapter_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("theirs", "no_such_module_of_theirs:Target", GROUP)
    known = entry_points(group=GROUP)
    monkeypatch.setattr(wdp_edge.protocols.target, "entry_points", lambda group: [theirs, *known])
    assert target_by_name(Path("model.onnx")) == "onnx", "it does not keep the others from being used"
    assert check_toolkit("theirs").problem == (
        "Target 'theirs' cannot be imported: No module named 'no_such_module_of_theirs'."
    )


def test_looking_imports_no_toolkit() -> None:
    script = (
        "import sys; from wdp_edge.commands.doctor import doctor; doctor(); "
        "print({'torch', 'executorch', 'onnx', 'coremltools', 'ai_edge_litert'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said == "set()\n"


def test_a_machine_without_a_gpu_and_a_driver_is_told_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr("wdp_edge.commands.doctor.has_gpu", lambda: False)
    assert check_driver().install == "wdp-edge devices setup gpu" and not check_driver().found
    monkeypatch.setattr("wdp_edge.commands.doctor.has_gpu", lambda: True)
    assert check_driver().found and not check_driver().install
