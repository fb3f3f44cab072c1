"""wdp_edge/runners: what is built, from what, and when it is built again."""

from __future__ import annotations

import base64
import hashlib
import platform
import zipfile
from pathlib import Path

import pytest
from native import needs

from wdp_edge.errors import InputError, SetupError
from wdp_edge.files import sha256
from wdp_edge.runners import runtimes
from wdp_edge.runners.build import Bundle, bundle, plugin, soname
from wdp_edge.runners.runtimes import RUNTIMES, cache_folder, unpack

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


def test_a_wheel_that_is_not_to_be_had_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    with pytest.raises(SetupError, match=f"pip cannot get the {other} wheel of ai-edge-litert"):
        runtimes.package_folder(RUNTIMES["tflite"], other)
    assert not list(cache.rglob("*.so"))


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


def wheel(folder: Path, files: dict[str, bytes], listed: dict[str, bytes]) -> Path:
    """A wheel whose list says other things than it holds, where `listed` does."""
    path = folder / "ai_edge_litert-1-py3-none-any.whl"
    lines = []
    for name, data in {**files, **listed}.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("ai_edge_litert-1.dist-info/RECORD", "".join(lines))
    return path


def test_only_what_is_needed_is_unpacked(tmp_path: Path) -> None:
    files = {"ai_edge_litert/libLiteRt.so": b"library", "ai_edge_litert/other.py": b"", "libLiteRt.so": b""}
    unpack(wheel(tmp_path, files, {}), RUNTIMES["tflite"], tmp_path / "out")
    found = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert found == ["ai_edge_litert/libLiteRt.so"]


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    name = "ai_edge_litert/libLiteRt.so"
    with pytest.raises(SetupError, match="damaged"):
        unpack(wheel(tmp_path, {name: b"changed"}, {name: b"library"}), RUNTIMES["tflite"], tmp_path / "out")


def test_a_wheel_writes_nowhere_else(tmp_path: Path) -> None:
    files = {"ai_edge_litert/libLiteRt.so/../../../escaped": b"library"}
    with pytest.raises(SetupError, match="damaged"):
        unpack(wheel(tmp_path, files, {}), RUNTIMES["tflite"], tmp_path / "out")
    assert not (tmp_path / "escaped").exists()
