"""targets/onnx/weights.py: int8 weights with which no product saturates, on whichever processor this runs."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from wdp_edge.targets.onnx.weights import safe_scales


def wide_ranged(inputs: int, outputs: int) -> np.ndarray:
    """[inputs, outputs] float32 with tails far wider than a Gaussian's, the case in which pairs saturate most."""
    random = np.random.default_rng(inputs)
    spread = np.exp(random.normal(size=(inputs, outputs)))
    return (random.normal(size=(inputs, outputs)) * spread).astype(np.float32)


def quantized(weight: np.ndarray, neighbours: bool = True) -> np.ndarray:
    return np.rint(weight / safe_scales(weight, neighbours)).astype(np.int32)


@pytest.mark.parametrize("inputs", [1, 2, 7, 64, 385])
def test_no_pair_leaves_16_bits(inputs: int) -> None:
    """vpmaddubsw written out: 255 times the positive, or the negative, weights of a pair."""
    rows = np.pad(quantized(wide_ranged(inputs, 40)), ((0, inputs % 2), (0, 0))).reshape(-1, 2, 40)
    assert 255 * np.maximum(rows, 0).sum(1).max() <= 2**15 - 1
    assert 255 * np.minimum(rows, 0).sum(1).min() >= -(2**15)
    assert np.abs(rows).max() <= 127


def test_any_two_weights_of_a_convolution_stay_inside() -> None:
    found = np.sort(quantized(wide_ranged(48, 40), neighbours=False), axis=0)
    assert found[-2:].clip(0).sum(0).max() <= 128 and found[:2].clip(None, 0).sum(0).min() >= -128


def test_a_row_without_large_neighbours_keeps_all_8_bits() -> None:
    weight = np.zeros((8, 1), np.float32)
    weight[[0, 3, 5], 0] = 1, -1, 0.5
    assert safe_scales(weight, neighbours=True) == pytest.approx(1 / 127)
    assert safe_scales(-weight, neighbours=False) == pytest.approx(1.5 / 127)


def test_weights_of_zero_have_a_scale() -> None:
    assert (safe_scales(np.zeros((3, 2), np.float32), neighbours=True) > 0).all()


@pytest.mark.parametrize("rows", [1, 5, 17])
@pytest.mark.parametrize(("inputs", "outputs"), [(7, 3), (64, 33), (385, 16), (1536, 10)])
def test_the_runtime_multiplies_exactly(rows: int, inputs: int, outputs: int) -> None:
    weight = quantized(wide_ranged(inputs, outputs)).astype(np.int8)
    images = np.random.default_rng(1).integers(200, 256, (rows, inputs)).astype(np.uint8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [rows, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [rows, outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"a": images})
    assert (got == images.astype(np.int64) @ weight.astype(np.int64)).all()
