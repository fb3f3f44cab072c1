"""wdp_edge/devices/emulated.py: processors of other kinds, and what a file computes on them."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from wdp_edge.devices.emulated import PROCESSORS, get_processor, native_outputs, outputs_on
from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target

x86_linux = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="x86-64 Linux emulates it"
)


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(InputError, match=r"no processor called '486'.*haswell, cortex-a53, cortex-a76"):
        get_processor("486")


def test_kinds_of_emulated_arm_cores_are_those_of_real_ones() -> None:
    assert PROCESSORS["cortex-a53"].kind == "aarch64 neon" and PROCESSORS["cortex-a76"].kind == "aarch64 dotprod"


@x86_linux
@pytest.mark.parametrize(("name", "emulator"), [("haswell", "qemu-x86_64"), ("cortex-a53", "qemu-aarch64")])
def test_a_missing_emulator_is_said(name: str, emulator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WDP_EDGE_CACHE", str(tmp_path))
    with pytest.raises(SetupError, match=rf"needs {emulator}.*apt-get install qemu-user"):
        get_processor(name)


def test_a_target_without_a_native_runner_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no native runner for target 'coreml'"):
        outputs_on(PROCESSORS["cortex-a53"], "coreml", tmp_path / "m.mlpackage", torch.zeros(1, 3, 4, 4))


def lacking(name: str) -> list[str]:
    compiler = ["aarch64-linux-gnu-g++"] if name.startswith("cortex") else ["g++"]
    return [tool for tool in ("cmake", PROCESSORS[name].emulator, *compiler) if shutil.which(tool) is None]


@x86_linux
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.skipif(bool(lacking(n)), reason=f"needs {lacking(n)}")) for n in PROCESSORS],
)
def test_every_processor_runs_a_file_of_integers_by_the_native_runner(name: str, tmp_path: Path) -> None:
    """Four images one after another, each with an output of its own: as here, to the rounding of float32."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 64), torch.nn.ReLU(), torch.nn.Linear(64, 20))
    target, path, images = get_target("tflite"), tmp_path / "net.tflite", torch.randn(4, 3, 4, 4)
    target.export(layers.eval(), images[:1], path, ExportOptions(Precision.INT8_DYNAMIC))
    program = target.load(path, 1)
    expected = torch.cat([program(image) for image in images.split(1)])
    got = native_outputs(get_processor(name), "tflite", path, images)
    assert expected.std(0).min() > 0.01
    torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-4 * float(expected.abs().max()))


@x86_linux
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-user")
def test_a_product_that_saturates_is_seen_on_an_emulated_haswell(tmp_path: Path) -> None:
    """Weights of 127 beside each other: 255 * 127 * 2 leaves 16 bits there."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["a"], to=TensorProto.UINT8),
            helper.make_node("MatMulInteger", ["a", "w"], ["p"]),
            helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
        ],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.stack([np.full(8, 127), [127, 0] * 4], 1).astype(np.int8), "w")],
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    got = outputs_on(get_processor("haswell"), "onnx", path, torch.full((2, 8), 255.0))
    assert got.tolist() == [[4 * (2**15 - 1), 4 * 255 * 127]] * 2
