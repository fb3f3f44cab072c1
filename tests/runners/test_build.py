"""wdp_edge/runners/build.py: what is built, from what, and when it is built again."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from native import needs

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import sha256
from wdp_edge.runners.build import Bundle, bundle, plugin, soname
from wdp_edge.runners.runtimes import cache_folder

HERE = platform.machine()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))
    return cache_folder()


@needs("cmake", "g++")
def test_a_build_is_used_again_without_any_tool(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bundle("tflite", HERE)
    assert made.runtime.startswith("ai-edge-litert ")
    assert made.digest == sha256(made.folder)
    assert (made.folder / "runner").stat().st_mode & 0o111 and made.folder.is_relative_to(cache)
    monkeypatch.setattr("wdp_edge.runners.build.build", lambda *_: pytest.fail("it was built again"))
    assert bundle("tflite", HERE) == made


@needs("cmake", "g++")
def test_two_builds_are_alike_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFLAGS", "-O0 -g")  # of the user; not to be taken
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / name))
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        made.append((bundle("executorch", HERE), plugin(1)))
    (one, first), (two, second) = made
    assert one.folder != two.folder and one.digest == two.digest
    assert first != second and first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in (one.folder / "runner").read_bytes()


@needs("cmake", "g++")
def test_the_plugin_is_built_for_each_interface(cache: Path) -> None:
    assert plugin(1) != plugin(2)
    assert b"qemu_plugin_scoreboard_new" in plugin(2).read_bytes()
    assert b"qemu_plugin_scoreboard_new" not in plugin(1).read_bytes()


def test_what_cannot_be_built_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no native runner for target 'coreml'"):
        bundle("coreml", HERE)
    with pytest.raises(SetupError, match="no runner for riscv64"):
        bundle("tflite", "riscv64")
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(SetupError, match=r"g\+\+ is not installed.*apt-get install g\+\+"):
        bundle("tflite", HERE)
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    with pytest.raises(SetupError, match=rf"apt-get install g\+\+-{other.replace('_', '-')}-linux-gnu"):
        bundle("tflite", other)


def test_a_command_works_from_anywhere() -> None:
    command = ("./ld.so", "--library-path", ".", "./runner")
    made = Bundle(Path("here"), command, "digest", "runtime 1")
    assert made.argv("/data/x") == ["/data/x/ld.so", "--library-path", "/data/x", "/data/x/runner"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("libonnxruntime.so.1.32.0", "libonnxruntime.so.1"), ("libm.so.6", "libm.so.6"), ("libLiteRt.so", "libLiteRt.so")],
)
def test_libraries_are_named_as_programs_call_them(name: str, expected: str) -> None:
    assert soname(name) == expected
