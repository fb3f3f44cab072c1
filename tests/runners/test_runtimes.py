"""wdp_edge/runners/runtimes.py: what runners link against, taken from wheels that are as they say."""

from __future__ import annotations

import base64
import hashlib
import platform
import zipfile
from pathlib import Path

import pytest

from wdp_edge.errors import InputError, SetupError
from wdp_edge.runners import runtimes
from wdp_edge.runners.runtimes import RUNTIMES, cache_folder, fetched_folder, pip_words, runtime_of, unpack

HERE = platform.machine()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def test_a_target_without_a_native_runner_is_told_those_that_have_one() -> None:
    assert runtime_of("onnx").package == "onnxruntime"
    with pytest.raises(InputError, match="'coreml'") as caught:
        runtime_of("coreml")
    assert all(target in caught.value.hint for target in ("executorch", "tflite", "onnx"))


def test_what_another_processor_needs_is_kept_apart_by_version(cache: Path) -> None:
    one, two = (fetched_folder(RUNTIMES["onnx"], arch) for arch in ("x86_64", "aarch64"))
    assert one != two and one.parent == two.parent and one.is_relative_to(cache)
    assert RUNTIMES["onnx"].version in one.name
    words = pip_words("aarch64")
    assert "--no-deps" in words and "--only-binary=:all:" in words
    assert {word for word in words if word.startswith("manylinux")} == {
        f"{name}_aarch64" for name in ("manylinux_2_28", "manylinux_2_27", "manylinux2014")
    }


def test_a_wheel_that_is_not_to_be_had_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    other = "aarch64" if HERE == "x86_64" else "x86_64"
    with pytest.raises(SetupError, match=f"pip cannot get the {other} wheel of ai-edge-litert"):
        runtimes.package_folder(RUNTIMES["tflite"], other)
    assert not list(cache.rglob("*.so"))


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
