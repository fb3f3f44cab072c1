"""What LiteRT's log says, and what is said where a file or a machine does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from cut_families import cut_model
from tflite_models import small_model, some_images

from wdp_edge.commands.inspect import contents_of
from wdp_edge.devices.evaluate import run_file
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.runners.vulkan import has_gpu
from wdp_edge.targets.tflite.export import convert
from wdp_edge.targets.tflite_gpu.runtime import Split, before_the_first_refused, notes, read_log

LOG = """INFO: [delegate_webgpu.cc:342] Create WebGPU environment (use_low_power=0)
I0000 1 2 environment.cc:532] Selected adapter: SwiftShader Device (Subzero), arch=swiftshader, vendor=google, \
backend=Vulkan, adapterType=CPU / Software
ERROR: Following operations are not supported by GPU delegate:
DIV: No support of few identical inputs in the same operation.
CUMSUM: Operation is not supported.
229 operations will run on the GPU, and the remaining 18 operations will run on the CPU.
"""


def test_the_log_is_read() -> None:
    split = read_log(LOG)
    assert (split.adapter, split.software) == ("SwiftShader Device (Subzero)", True)
    assert (split.taken, split.left, split.failure) == (229, 18, "")
    assert [reason.partition(":")[0] for reason in split.reasons] == ["DIV", "CUMSUM"]
    real = read_log("Selected adapter: NVIDIA H200, arch=hopper, backend=Vulkan, adapterType=Discrete GPU\n")
    assert real.ran_on == "NVIDIA H200" and not real.left


def test_a_log_that_says_nothing_is_no_proof() -> None:
    assert read_log("") == Split()
    assert "does not say why" in notes(False, Split("GPU"))[0]


def test_what_comes_before_the_first_refused_operator_is_taken() -> None:
    split = Split("GPU", taken=2, left=2, reasons=("DIV: no",))
    assert before_the_first_refused(["ADD", "MUL", "DIV", "ADD"], split) == ["ADD", "MUL"]
    assert list(before_the_first_refused(["DIV", "ADD", "MUL", "ADD"], split)) == []


def test_without_a_driver_the_command_that_gets_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_gpu():
        pytest.skip("this machine has a GPU")
    path, images = tmp_path / "model.gpu.tflite", some_images(1)
    path.write_bytes(convert(small_model(), images))
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(SetupError, match=r"no Vulkan driver.*wdp-edge devices setup gpu"):
        run_file("tflite:gpu", path, [images], 1, "run", processes=1)


@pytest.mark.usefixtures("driver")
def test_a_file_for_the_cpu_is_refused_with_what_the_driver_says(tmp_path: Path) -> None:
    path, images = tmp_path / "model.tflite", some_images(1)
    get_target("tflite").export(small_model(), images, path, ExportOptions(Precision.INT8_DYNAMIC))
    with pytest.raises(InputError, match=r"The GPU cannot run .*--unit gpu"):
        run_file("tflite:gpu", path, [images], 1, "run", processes=1)


@pytest.mark.usefixtures("driver")
def test_what_stays_on_the_cpu_is_counted(tmp_path: Path) -> None:
    """An average over tokens as files for the CPU have it: a product with a constant on the left."""
    path, images = tmp_path / "model.tflite", some_images(1)
    get_target("tflite").export(cut_model("average pooling"), images, path, ExportOptions(Precision.FP32))
    found = contents_of(get_target("tflite:gpu"), path)
    total, taken = (sum(getattr(o, what) for o in found.operators) for what in ("count", "delegated"))
    assert found.notes[0].startswith(f"{taken} operators run on the GPU, {total - taken} on the CPU") and taken < total
    assert "BATCH_MATMUL" in found.notes[1]
    with pytest.raises(InputError, match=rf"The GPU takes {taken} of {total} operators of .*BATCH_MATMUL.*--unit gpu"):
        run_file("tflite:gpu", path, [images], 1, "run", processes=1)
