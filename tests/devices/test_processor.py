"""Kinds of processors: as they are called, and emulated for a file."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from wdp_edge.devices.emulated import get_processor, onnx_outputs
from wdp_edge.devices.processor import processor_kind, this_processor
from wdp_edge.errors import InputError, SetupError

x86_linux = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="x86-64 Linux emulates it"
)


@pytest.mark.parametrize(
    ("machine", "features", "kind"),
    [
        ("x86_64", {"avx", "avx2", "fma"}, "x86-64 avx2"),
        ("AMD64", {"avx2", "avx512f", "avx512_vnni"}, "x86-64 avx512-vnni"),
        ("x86_64", {"avx2", "avx512f"}, "x86-64 avx512"),
        ("x86_64", set(), "x86-64 sse"),
        ("aarch64", {"asimd", "asimddp"}, "aarch64 dotprod"),
        ("arm64", {"asimd", "asimddp", "i8mm"}, "aarch64 i8mm"),
        ("aarch64", {"asimd"}, "aarch64 neon"),
        ("riscv64", {"v"}, "riscv64"),
    ],
)
def test_kinds(machine: str, features: set[str], kind: str) -> None:
    assert processor_kind(machine, features) == kind


def test_this_machine_has_a_kind() -> None:
    assert this_processor().split()[0] in ("x86-64", "aarch64", platform.machine())


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(InputError, match=r"no processor '486'.*haswell"):
        get_processor("486")


@x86_linux
def test_a_missing_emulator_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"needs qemu-x86_64.*apt-get install qemu-user"):
        get_processor("haswell")


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
    got = onnx_outputs(path, torch.full((2, 8), 255.0), get_processor("haswell"))
    assert got.tolist() == [[4 * (2**15 - 1), 4 * 255 * 127]] * 2
