"""float16 graphs rounded as they say, on a machine that computes them in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_files import TARGET, export, run, small_model, some_images

from wdp_edge.artifacts.parity import compare
from wdp_edge.protocols.precision import Precision
from wdp_edge.targets.onnx.rounding import has_half, rounded


def halves(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], ends: int = 2) -> onnx.ModelProto:
    """A graph from "x" to "y", [1, 3] float16 each; float32 outside where `ends` is 0."""
    kind = TensorProto.FLOAT16 if ends else TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, kind, [1, 3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(v, n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def ran(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def test_every_result_is_rounded_and_every_sum_is_not() -> None:
    w, b = np.float16([[1000, 2, 3], [4, 5, 6], [7, 8, 9]]), np.float16([0.1, 0.2, 0.3])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    x = np.float32([[60.03, -3, 0.7]]).astype(np.float16).astype(np.float32)
    with np.errstate(over="ignore"):
        product = (x @ w.astype(np.float32)).astype(np.float16)
        expected = (product.astype(np.float32) + b.astype(np.float32)).astype(np.float16).astype(np.float32)
    got = ran(rounded(halves(nodes, {"w": w, "b": b})), x)
    assert got.dtype == np.float32 and np.array_equal(got, expected)
    assert np.isfinite(got).all() and not np.array_equal(got, x @ w.astype(np.float32) + b.astype(np.float32))
    assert np.isinf(ran(rounded(halves(nodes, {"w": w, "b": b})), 2 * x)[0, 0]), "beyond 65,504"


def test_casts_of_the_graph_itself_round_too() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    x = np.float32([[0.1, 1 / 3, 1e5]])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16).astype(np.float32)
    assert np.array_equal(ran(rounded(halves(nodes, {}, ends=0)), x), expected)


def test_half_precision_is_seen_wherever_it_is() -> None:
    add = [helper.make_node("Add", ["x", "b"], ["y"])]
    assert has_half(halves(add, {"b": np.float16([1, 2, 3])}))
    assert not has_half(halves(add, {"b": np.float32([1, 2, 3])}, ends=0))
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float16([1]), "c"))
    assert has_half(halves([constant, helper.make_node("Add", ["x", "c"], ["y"])], {}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    folder = tmp_path_factory.mktemp("rounding")
    precisions = (Precision.FP32, Precision.FP16)
    return {p: export(small_model(), folder / f"{p}.onnx", p).path for p in precisions}


def test_fp16_is_judged_with_every_result_rounded(files: dict[Precision, Path], tmp_path: Path) -> None:
    """This machine computes float16 in float32, where nothing overflows."""
    images, path = some_images(8), files[Precision.FP16]
    with torch.no_grad():
        reference = small_model()(images)
    sound = torch.cat([TARGET.load_rounding(path, threads=1)(x) for x in images.split(1)])
    # Some twenty roundings to 11 bits, one after the other: their root times half a step.
    assert compare("rounded", reference, sound).relative_error < 20**0.5 * 2**-11
    assert not torch.equal(sound, run(path, images))
    model = small_model()
    with torch.no_grad():
        model.blocks[1].mlp.fc1.weight[:8] *= 3e5
        model.blocks[1].mlp.fc1.bias[:8] *= 3e5
        model.blocks[1].mlp.fc2.weight[:, :8] /= 3e5
    half = export(model, tmp_path / "half.onnx", Precision.FP16).path
    assert torch.isfinite(run(half, images)).all()
    assert not torch.isfinite(TARGET.load_rounding(half, threads=1)(images[:1])).all()
    single = files[Precision.FP32]
    assert torch.equal(TARGET.load_rounding(single, threads=1)(images[:1]), run(single, images[:1]))
