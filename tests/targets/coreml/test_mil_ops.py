"""targets/coreml/mil_ops.py: every operator against coremltools' own value inference, or numpy where it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wdp_edge.targets.coreml.mil_ops import OPS, UnsupportedParameter
from wdp_edge.targets.coreml.mil_program import MilProgram
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

with quiet(), silent_stderr():
    import coremltools as ct
    from coremltools.converters.mil.mil import Builder as mb
    from coremltools.converters.mil.mil import Function, Placeholder

Array = NDArray[Any]
Build = Callable[..., Any]
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def values(shape: tuple[int, ...] | list[int], seed: int = 0, low: float = -2, high: float = 2) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def evaluated(build: Build, *arrays: Array) -> list[Array]:
    """What our evaluator makes of a program whose inputs are the arrays."""
    with Function(
        {f"x{i}": Placeholder(a.shape) for i, a in enumerate(arrays)}, opset_version=ct.target.iOS18
    ) as function:
        out = build(*function.inputs.values())
        function.set_outputs(list(out) if isinstance(out, list | tuple) else [out])
    return [t.numpy() for t in MilProgram(function)(*map(torch.from_numpy, arrays))]


def inferred(build: Build, *arrays: Array) -> list[Array]:
    """What coremltools computes while it builds the same program from constants."""
    with Function({}, opset_version=ct.target.iOS18):
        out = build(*(mb.const(val=a) for a in arrays))
        return [v.val for v in (out if isinstance(out, list | tuple) else [out])]


def check(build: Build, *arrays: Array) -> None:
    expected = inferred(build, *arrays)
    assert all(e is not None for e in expected), "coremltools infers no value here"
    for e, got in zip(expected, evaluated(build, *arrays), strict=True):
        assert got.shape == np.shape(e)
        np.testing.assert_allclose(got, e, rtol=2e-5, atol=2e-6)


UNARY: dict[str, tuple[Callable[..., Any], float]] = {
    "relu": (mb.relu, -2),
    "silu": (mb.silu, -2),
    "sigmoid": (mb.sigmoid, -2),
    "tanh": (mb.tanh, -2),
    "erf": (mb.erf, -2),
    "exp": (mb.exp, -2),
    "sqrt": (mb.sqrt, 0.1),
    "square": (mb.square, -2),
    "rsqrt": (mb.rsqrt, 0.1),
    "identity": (mb.identity, -2),
}
WITHOUT_INFERENCE: dict[str, Callable[[Array], Array]] = {"silu": lambda x: x / (1 + np.exp(-x))}


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes)
@settings(max_examples=10, deadline=None)
def test_functions_of_one_value(name: str, shape: list[int]) -> None:
    build, low = UNARY[name]
    x = values(shape, low=low)
    if name in WITHOUT_INFERENCE:
        np.testing.assert_allclose(evaluated(lambda v: build(x=v), x)[0], WITHOUT_INFERENCE[name](x), rtol=2e-5)
    else:
        check(lambda v: build(x=v), x)


def test_rsqrt_adds_its_epsilon_first() -> None:
    check(lambda x: mb.rsqrt(x=x, epsilon=0.5), values((3, 4), low=0))


@pytest.mark.parametrize("build", [mb.add, mb.sub, mb.mul, mb.real_div, mb.pow], ids=lambda b: b.__name__)
@given(shape=shapes, ones=st.integers(0, 15))
@settings(max_examples=10, deadline=None)
def test_functions_of_two_values_broadcast(build: Build, shape: list[int], ones: int) -> None:
    other = [1 if ones >> axis & 1 else n for axis, n in enumerate(shape)]
    check(lambda x, y: build(x=x, y=y), values(shape, 0, low=0.1), values(other, 1, low=0.1))


@pytest.mark.parametrize("build", [mb.reduce_mean, mb.reduce_sum, mb.reduce_max], ids=lambda b: b.__name__)
@given(shape=shapes, axes=st.sets(st.integers(0, 3)), keep=st.booleans(), negative=st.booleans())
@settings(max_examples=10, deadline=None)
def test_reductions(build: Build, shape: list[int], axes: set[int], keep: bool, negative: bool) -> None:
    over = [a - len(shape) * negative for a in sorted(axes) if a < len(shape)] or None
    check(lambda x: build(x=x, axes=over, keep_dims=keep), values(shape))


@given(shape=shapes, axis=st.integers(-4, 3))
@settings(max_examples=10, deadline=None)
def test_softmax(shape: list[int], axis: int) -> None:
    check(lambda x: mb.softmax(x=x, axis=max(-len(shape), min(axis, len(shape) - 1))), values(shape))


@pytest.mark.parametrize("mode", ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])
def test_gelu(mode: str) -> None:
    check(lambda x: mb.gelu(x=x, mode=mode), values((3, 50), low=-4, high=4))


@pytest.mark.parametrize(("flip_x", "flip_y"), [(False, False), (True, False), (False, True), (True, True)])
@given(n=st.integers(1, 4), m=st.integers(1, 4), k=st.integers(1, 4), batch=st.integers(1, 3))
@settings(max_examples=5, deadline=None)
def test_matmul(flip_x: bool, flip_y: bool, n: int, m: int, k: int, batch: int) -> None:
    x, y = values((batch, k, n) if flip_x else (batch, n, k)), values((batch, m, k) if flip_y else (batch, k, m), 1)
    check(lambda a, b: mb.matmul(x=a, y=b, transpose_x=flip_x, transpose_y=flip_y), x, y)


@pytest.mark.parametrize("bias", [False, True])
def test_linear(bias: bool) -> None:
    weight, given_bias = values((5, 4), 1), values((5,), 2) if bias else None
    check(lambda x: mb.linear(x=x, weight=weight, bias=given_bias), values((3, 4)))


@pytest.mark.parametrize("axes", [[-1], [2], [1, 2], [1], [0, -1]])
@pytest.mark.parametrize("affine", ["neither", "gamma", "both"])
def test_layer_norm(axes: list[int], affine: str) -> None:
    x = values((2, 3, 4))
    over = tuple(sorted(a % 3 for a in axes))
    shape = tuple(x.shape[a] for a in over)
    gamma = values(shape, 1) if affine != "neither" else None
    beta = values(shape, 2) if affine == "both" else None
    got = evaluated(lambda v: mb.layer_norm(x=v, axes=axes, gamma=gamma, beta=beta, epsilon=0.01), x)[0]
    laid = [n if a in over else 1 for a, n in enumerate(x.shape)]
    expected = (x - x.mean(over, keepdims=True)) / np.sqrt(x.var(over, keepdims=True) + 0.01)
    expected = expected * (1 if gamma is None else gamma.reshape(laid)) + (0 if beta is None else beta.reshape(laid))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pad=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    groups=st.sampled_from([1, 2]),
)
@settings(max_examples=15, deadline=None)
def test_conv(kernel: int, stride: int, dilation: int, pad: list[int], groups: int) -> None:
    x, weight, bias = values((1, 4, 7, 6)), values((2, 4 // groups, kernel, kernel), 1), values((2,), 2)
    got = evaluated(
        lambda v: mb.conv(
            x=v, weight=weight, bias=bias, strides=[stride, 1], dilations=[1, dilation], pad_type="custom", pad=pad,
            groups=groups,
        ),
        x,
    )[0]  # fmt: skip
    padded = np.pad(x, [(0, 0), (0, 0), (pad[0], pad[1]), (pad[2], pad[3])])
    np.testing.assert_allclose(got, direct_conv(padded, weight, bias, stride, dilation, groups), rtol=1e-4, atol=1e-5)


def direct_conv(x: Array, weight: Array, bias: Array, stride: int, dilation: int, groups: int) -> Array:
    """From the definition: stride along the height, dilation along the width."""
    out, inputs, kernel, _ = weight.shape
    rows = range(0, x.shape[2] - kernel + 1, stride)
    columns = range(x.shape[3] - dilation * (kernel - 1))
    result = np.zeros((1, out, len(rows), len(columns)), np.float32)
    for o in range(out):
        first = o // (out // groups) * inputs
        for i, row in enumerate(rows):
            for j in columns:
                patch = x[0, first : first + inputs, row : row + kernel, j : j + dilation * (kernel - 1) + 1 : dilation]
                result[0, o, i, j] = (patch * weight[o]).sum() + bias[o]
    return result


def test_conv_without_padding_or_bias() -> None:
    x, weight = values((1, 3, 8, 8)), values((5, 3, 4, 4), 1)
    got = evaluated(lambda v: mb.conv(x=v, weight=weight, strides=[4, 4], pad_type="valid"), x)[0]
    np.testing.assert_allclose(got, patches(x, weight), rtol=1e-4, atol=1e-5)


def patches(x: Array, weight: Array) -> Array:
    blocks = x.reshape(3, 2, 4, 2, 4)
    return np.asarray(np.einsum("chiwj,ocij->ohw", blocks, weight)[None])


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked: bool) -> None:
    q, k, v = values((1, 2, 5, 4)), values((1, 2, 6, 4), 1), values((1, 2, 6, 3), 2)
    mask = values((1, 1, 5, 6), 3) if masked else None
    got = evaluated(lambda a, b, c: mb.scaled_dot_product_attention(query=a, key=b, value=c, attn_mask=mask), q, k, v)[
        0
    ]
    weights = np.exp(q @ k.swapaxes(-1, -2) / 2 + (0 if mask is None else mask))
    np.testing.assert_allclose(got, weights / weights.sum(-1, keepdims=True) @ v, rtol=1e-4, atol=1e-5)


@given(shape=shapes, data=st.data())
@settings(max_examples=20, deadline=None)
def test_slices(shape: list[int], data: st.DataObject) -> None:
    begin = [data.draw(st.integers(0, n - 1)) for n in shape]
    end = [data.draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True)]
    stride = [data.draw(st.integers(1, 3)) for _ in shape]
    masks = [[data.draw(st.booleans()) for _ in shape] for _ in range(3)]
    if all(masks[2]):
        masks[2][0] = False
    check(
        lambda x: mb.slice_by_index(
            x=x, begin=begin, end=end, stride=stride, begin_mask=masks[0], end_mask=masks[1], squeeze_mask=masks[2]
        ),
        values(shape),
    )


@given(shape=st.lists(st.integers(1, 4), min_size=2, max_size=4), data=st.data())
@settings(max_examples=15, deadline=None)
def test_what_only_moves_values(shape: list[int], data: st.DataObject) -> None:
    x, rank = values(shape), len(shape)
    perm = data.draw(st.permutations(range(rank)))
    check(lambda v: mb.transpose(x=v, perm=perm), x)
    check(lambda v: mb.reshape(x=v, shape=[*shape[:-2], shape[-2] * shape[-1]]), x)
    axes = sorted(data.draw(st.sets(st.integers(0, rank), min_size=1, max_size=2)))
    check(lambda v: mb.expand_dims(x=v, axes=axes), x)
    check(lambda v: mb.expand_dims(x=v, axes=[a - rank - len(axes) for a in axes]), x)
    ones = [a for a, n in enumerate(shape) if n == 1]
    if ones and len(ones) < rank:
        check(lambda v: mb.squeeze(x=v, axes=ones[:1]), x)
        check(lambda v: mb.squeeze(x=v), x)
    axis = data.draw(st.integers(-rank, rank - 1))
    check(lambda a, b: mb.concat(values=[a, b, a], axis=axis), x, values(shape, 1))


def test_reshape_keeps_a_dimension_that_is_zero() -> None:
    x = values((2, 3, 4))
    assert OPS["reshape"].function({"shape": [0, -1]})(torch.from_numpy(x)).shape == (2, 12)


@pytest.mark.parametrize("how", [{"num_splits": 3}, {"split_sizes": [1, 4, 1]}])
@pytest.mark.parametrize("axis", [1, -1])
def test_split(how: dict[str, Any], axis: int) -> None:
    check(lambda x: mb.split(x=x, axis=axis, **how), values((2, 6)))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantize_and_back(dtype: str, axis: int | None) -> None:
    kind, x = np.dtype(dtype), values((2, 3, 4), low=-3, high=3)
    scale = np.float32(0.02) if axis is None else np.array([0.01, 0.02, 0.03], np.float32)
    zero = kind.type(5) if axis is None else np.array([1, 2, 3], kind)
    args: dict[str, Any] = {"scale": scale, "zero_point": zero} | ({} if axis is None else {"axis": axis})
    got = evaluated(lambda v: mb.dequantize(input=mb.quantize(input=v, output_dtype=dtype, **args), **args), x)[0]
    s, z = (np.reshape(a, (1, 3, 1)) if axis else a for a in (scale, zero.astype(np.float32)))
    limits = np.iinfo(kind)
    stored = np.clip(np.round(x / s) + z, limits.min, limits.max)
    assert ((stored == limits.max) | (stored == limits.min)).any(), "nothing was clipped"
    np.testing.assert_allclose(got, (stored - z) * s, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "bool", "fp32"])
def test_cast(dtype: str) -> None:
    check(lambda x: mb.cast(x=mb.cast(x=x, dtype=dtype), dtype="fp32"), values((3, 4), low=-3, high=3))


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("conv", {"pad_type": "same"}, "pad_type same"),
        ("gelu", {"mode": "GUESS"}, "mode GUESS"),
        ("concat", {"axis": 0, "interleave": True}, "interleave"),
        ("cast", {"dtype": "int8"}, "dtype int8"),
        ("quantize", {"scale": 1.0, "output_dtype": "int4"}, "output_dtype int4"),
        ("slice_by_index", {"begin": [0], "end": [1], "stride": [-1]}, "stride"),
        ("softmax", {"temperature": 2.0}, "parameter temperature"),
        ("transpose", {}, "no value for perm"),
    ],
)
def test_parameters_it_does_not_know(name: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedParameter, match=said):
        OPS[name].function(params)


def test_every_operator_is_tested() -> None:
    from pathlib import Path

    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in OPS if f"mb.{name}" not in text] == []
