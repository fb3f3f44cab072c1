"""What `devices setup qemu` would fetch, and that what it makes works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wdp_edge.devices import setup
from wdp_edge.devices.setup import apt_files, qemu_steps, relocate, size_of_url, tool_steps, wheel_urls
from wdp_edge.errors import SetupError
from wdp_edge.runners.build import bundle, find_tool, tools_folder
from wdp_edge.runners.runtimes import RUNTIMES

USED = "cmake ninja make gcc g++ cc c++ as ld apt-get dpkg dpkg-deb tar sh env dirname readlink uname mv test rm cat"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with what a machine has that was never set up, and an empty cache. Returns the folder of the PATH."""
    path = tmp_path / "path"
    path.mkdir()
    for name in USED.split():
        if found := shutil.which(name):
            (path / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))
    return path


def pretend(path: Path, name: str, script: str) -> None:
    (path / name).unlink(missing_ok=True)
    (path / name).write_text(f"#!/bin/sh\n{script}\n")
    (path / name).chmod(0o755)


def test_the_steps_name_every_file_and_its_size(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(
        bare, "apt-get", "echo \"'http://x/a_1%3a2.deb' a_1%3a2.deb 1200 SHA256:0\"; echo \"'u' b.deb 34 SHA256:1\""
    )
    monkeypatch.setattr(setup, "wheel_urls", lambda targets: [f"https://x/{t}-1.whl" for t in targets])
    monkeypatch.setattr(setup, "size_of_url", lambda url: 56)
    monkeypatch.setattr("wdp_edge.devices.setup.platform.machine", lambda: "x86_64")
    for name in ("cmake", "gcc", "g++"):
        pretend(bare, name, "exit 0")
    steps = qemu_steps()
    assert steps[0].files == ("a_1%3a2.deb", "b.deb") and steps[0].bytes == 1234
    assert "qemu-user" in steps[0].title and "g++-aarch64-linux-gnu" in steps[0].title
    assert [s.files for s in steps[1:-1]] == [(f"{target}-1.whl",) for target in RUNTIMES]
    assert {s.bytes for s in steps[1:-1]} == {56} and steps[-1].bytes == 0


def test_nothing_is_planned_where_all_is_there(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cmake", "gcc", "g++", "qemu-aarch64", "aarch64-linux-gnu-g++"):
        pretend(bare, name, "exit 0")
    monkeypatch.setattr(setup, "is_fetched", lambda target: True)
    assert qemu_steps() == []


def test_what_was_unpacked_before_is_found(bare: Path) -> None:
    assert find_tool("qemu-aarch64") is None
    programs = tools_folder() / "bin"
    programs.mkdir(parents=True)
    for name in ("qemu-aarch64", "aarch64-linux-gnu-g++"):
        pretend(programs, name, "exit 0")
    assert tool_steps() == [] and find_tool("qemu-aarch64") == str(programs / "qemu-aarch64")


def test_what_cannot_be_done_is_said(bare: Path) -> None:
    (bare / "apt-get").unlink(missing_ok=True)
    with pytest.raises(SetupError, match="no apt-get"):
        tool_steps()
    pretend(bare, "apt-get", "echo 'E: Unable to locate package qemu-user' >&2; exit 100")
    with pytest.raises(SetupError, match="Unable to locate package qemu-user"):
        tool_steps()
    (bare / "cmake").unlink(missing_ok=True)
    with pytest.raises(SetupError, match="cmake is not installed"):
        qemu_steps()


def test_the_linker_is_sent_to_what_was_unpacked(tmp_path: Path) -> None:
    libraries = tmp_path / "usr/aarch64-linux-gnu/lib"
    libraries.mkdir(parents=True)
    script, library = libraries / "libc.so", libraries / "libm.so"
    script.write_text("/* GNU ld script\n*/\nGROUP ( /usr/aarch64-linux-gnu/lib/libc.so.6 )\n")
    library.write_bytes(b"\x7fELF /usr/aarch64-linux-gnu/lib/")
    relocate(tmp_path)
    assert script.read_text() == "/* GNU ld script\n*/\nGROUP ( libc.so.6 )\n"
    assert library.read_bytes() == b"\x7fELF /usr/aarch64-linux-gnu/lib/"


def test_a_size_that_nobody_tells_is_none() -> None:
    assert size_of_url("file:///etc/passwd") is None
    assert size_of_url("https://127.0.0.1:1/x.whl") is None


def test_nothing_to_fetch_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "run_pip", lambda *_: pytest.fail("pip was asked"))
    assert wheel_urls([]) == []


def without_tools(entries: list[str]) -> list[str]:
    """Installed packages less emulator and cross compiler, and less what needs them: apt wants a sound system."""
    tools = re.compile(r"^Package: (qemu-user|.*aarch64-linux-gnu.*|.*arm64-cross.*|libcapstone4|liburing2)$", re.M)
    gone = [entry for entry in entries if tools.search(entry)]
    while gone:
        entries = [entry for entry in entries if entry not in gone]
        names = "|".join(re.escape(name) for entry in gone for name in re.findall(r"^Package: (.*)$", entry, re.M))
        needs = re.compile(rf"^(Pre-)?Depends:.*(?<![\w.+-])({names})(?![\w.+-])", re.M)
        gone = [entry for entry in entries if needs.search(entry)]
    return entries


@pytest.mark.slow
def test_a_machine_without_them_gets_the_tools_without_root(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downloads about 85 MB. The system's own cross compiler must give the same bundle, when it is installed."""
    status = Path("/var/lib/dpkg/status")
    if not status.is_file() or not (bare / "apt-get").exists():
        pytest.skip("the tools come from the packages of Debian and Ubuntu; this is another system")
    (tmp_path / "status").write_text("\n\n".join(without_tools(status.read_text().split("\n\n"))))
    (tmp_path / "apt.conf").write_text(f'Dir::State::status "{tmp_path / "status"}";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    (step,) = tool_steps()
    assert step.bytes is not None and step.bytes > 10_000_000
    assert len(step.files) == len(apt_files(["qemu-user", "g++-aarch64-linux-gnu"])) > 5
    step.perform()
    assert tool_steps() == []
    emulator = find_tool("qemu-aarch64")
    assert emulator is not None and emulator.startswith(str(tools_folder()))
    said = subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("qemu-aarch64 version")
    made = bundle("tflite", "aarch64")
    monkeypatch.setenv("PATH", os.pathsep.join([str(bare), "/usr/bin"]))
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "other"))
    if shutil.which("aarch64-linux-gnu-g++"):
        assert bundle("tflite", "aarch64").digest == made.digest
