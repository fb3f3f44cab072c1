"""Running .tflite files: what a delegate runs, and an environment in which only tflite_runtime is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tflite_models import METADATA, error, small_model, some_images

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.targets.tflite.pack import pack, unpack
from wdp_edge.targets.tflite.runtime import delegated

slow = pytest.mark.slow  # makes an environment

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(__file__).parents[2] / "support" / "tflite_runtime_script.py"
SOURCES = ("wdp_edge", "targets", "calibration", "pyproject.toml", "README.md", "LICENSE")
# The last release, and what it was built against: it cannot share an environment with torch's toolkits.
PACKAGES = ("tflite-runtime==2.14.0", "numpy<2")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600)


def python_311() -> str:
    found = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
    if not found:
        pytest.skip("tflite-runtime has no wheels for this Python, and there is no python3.11.")
    return found


def make_wheel(folder: Path) -> Path:
    """Our own wheel, built from a copy so that nothing is left in the tree."""
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    built = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def legacy_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("legacy")
    made = run(python_311(), "-m", "venv", folder / "venv")
    if made.returncode:
        pytest.skip(f"No environment can be made: {made.stderr.strip()}")
    python = folder / "venv" / "bin" / "python"
    installed = run(python, "-m", "pip", "install", "-q", *PACKAGES)
    if installed.returncode:
        pytest.skip(f"tflite-runtime cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    (folder / "source").mkdir()
    own = run(python, "-m", "pip", "install", "-q", "--no-deps", make_wheel(folder / "source"))
    assert own.returncode == 0, own.stderr
    return python


@pytest.fixture(scope="module")
def found(legacy_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the other environment says about every precision, and about files that it must refuse."""
    target, folder = get_target("tflite"), tmp_path_factory.mktemp("files")
    model, images = small_model(), some_images(8)
    for precision in target.precisions:
        options = ExportOptions(precision, some_images(32), metadata=METADATA)
        target.export(model, images[:1], folder / f"{precision}.tflite", options)
    # The same int8-dynamic file as the quantizer left it, which does not state what it needs.
    understated = unpack((folder / "int8-dynamic.tflite").read_bytes())
    for code in understated.operatorCodes:
        code.version = min(code.version, 5)
    (folder / "understated.tflite").write_bytes(pack(understated, {}))
    (folder / "cut.tflite").write_bytes((folder / "fp32.tflite").read_bytes()[:5000])
    np.save(folder / "images.npy", images.numpy())
    ran = run(legacy_python, SCRIPT, folder, folder / "images.npy")
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


@slow
def test_only_tflite_runtime_is_there(found: dict[str, Any]) -> None:
    assert found["packages"] == ["tflite_runtime"]
    assert found["missing"] == []
    assert found["versions"]["tflite-runtime"] == "2.14.0"


@slow
@pytest.mark.parametrize(
    ("precision", "most"), [("fp32", 1e-4), ("fp16", 0.003), ("int8-weight", 0.03), ("int8-static", 0.1)]
)
def test_it_runs_what_it_can(found: dict[str, Any], precision: str, most: float) -> None:
    told = found["files"][precision]
    assert "error" not in told, told
    assert error(torch.tensor(told["logits"]), small_model()(some_images(8))) < most
    assert told["delegates"] > 0
    assert told["metadata"] == METADATA


@slow
@pytest.mark.parametrize("name", [Precision.INT8_DYNAMIC, "understated"])
def test_it_refuses_what_it_would_compute_wrongly(found: dict[str, Any], name: str) -> None:
    assert "tflite_runtime computes" in found["files"][name]["error"]
    assert "Install ai-edge-litert, or export int8-static or int8-weight." in found["files"][name]["error"]


@slow
def test_it_refuses_a_cut_file(found: dict[str, Any]) -> None:
    assert "cut short or damaged" in found["files"]["cut"]["error"]


@slow
def test_it_has_no_times_of_operators(found: dict[str, Any]) -> None:
    assert "need ai-edge-litert" in found["traced"]


def test_what_a_delegate_replaced() -> None:
    """0 -> a -> 1 -> b -> 2 -> c -> 3 with weights 9: a delegate from 1 to 2 holds b alone."""
    own = [
        {"index": 0, "inputs": [0, 9], "outputs": [1]},
        {"index": 1, "inputs": [1, 9], "outputs": [2]},
        {"index": 2, "inputs": [2, 9], "outputs": [3]},
    ]
    assert delegated(own, [{"inputs": [1, 9], "outputs": [2]}]) == {1}
    assert delegated(own, [{"inputs": [0, 9], "outputs": [3]}]) == {0, 1, 2}
    assert delegated(own, [{"inputs": [0, 9], "outputs": [1]}, {"inputs": [2, 9], "outputs": [3]}]) == {0, 2}
    assert delegated(own, []) == set()
