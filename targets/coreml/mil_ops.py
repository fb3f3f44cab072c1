"""What each operator of an ML program (MIL) computes, with torch.

One entry per operator: which of its arguments are tensors, which are constants with which defaults, and how to make
the function once the constants are known. Semantics are those of coremltools' operator reference. Tensors of either
float type are float32 here; the program's evaluator rounds results (mil_program.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Params = Mapping[str, Any]
Function = Callable[..., Any]
_REQUIRED = object()


@dataclass(frozen=True)
class MilOp:
    """tensors: arguments that are tensors, in the order the function takes them; None where one is left out.

    build: constants -> the function, which gives one tensor or a sequence of them. Raises UnsupportedParameter.
    params: constant arguments and their defaults. moves: results are values of the input, so they need no rounding.
    """

    tensors: tuple[str, ...]
    build: Callable[[Params], Function]
    params: Params = field(default_factory=dict)
    moves: bool = False

    def function(self, given: Params) -> Function:
        """The function for these constants. Raises UnsupportedParameter for one that is unknown or missing."""
        if unknown := given.keys() - self.params.keys():
            raise UnsupportedParameter(f"parameter {', '.join(sorted(unknown))}")
        params = {**self.params, **given}
        if missing := [name for name, value in params.items() if value is _REQUIRED]:
            raise UnsupportedParameter(f"no value for {', '.join(missing)}")
        return self.build(params)


class UnsupportedParameter(ValueError):
    """A constant argument that the evaluator has no function for."""


def conv(p: Params) -> Function:
    if p["pad_type"] not in ("valid", "custom"):
        raise UnsupportedParameter(f"pad_type {p['pad_type']}")
    groups, pad = p["groups"], p["pad"] if p["pad_type"] == "custom" else None

    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        spatial = x.ndim - 2
        if pad is not None:
            x = F.pad(x, [n for axis in reversed(range(spatial)) for n in pad[2 * axis : 2 * axis + 2]])
        strides, dilations = p["strides"] or [1] * spatial, p["dilations"] or [1] * spatial
        return torch.convolution(x, weight, bias, strides, [0] * spatial, dilations, False, [0] * spatial, groups)

    return run


def matmul(p: Params) -> Function:
    flip_x, flip_y = p["transpose_x"], p["transpose_y"]

    def run(x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(x.mT if flip_x else x, y.mT if flip_y else y)

    return run


def attention(p: Params) -> Function:
    def run(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask)

    return run


def layer_norm(p: Params) -> Function:
    axes, epsilon = p["axes"], p["epsilon"]

    def run(x: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        over = sorted(a % x.ndim for a in axes)
        if over == list(range(x.ndim - len(over), x.ndim)):
            return F.layer_norm(x, x.shape[-len(over) :], gamma, beta, epsilon)
        variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
        normed = (x - mean) * torch.rsqrt(variance + epsilon)
        shape = [n if a in over else 1 for a, n in enumerate(x.shape)]
        normed = normed if gamma is None else normed * gamma.reshape(shape)
        return normed if beta is None else normed + beta.reshape(shape)

    return run


def gelu(p: Params) -> Function:
    modes: dict[str, Function] = {
        "EXACT": F.gelu,
        "TANH_APPROXIMATION": partial(F.gelu, approximate="tanh"),
        "SIGMOID_APPROXIMATION": lambda x: x * torch.sigmoid(1.702 * x),
    }
    if p["mode"] not in modes:
        raise UnsupportedParameter(f"mode {p['mode']}")
    return modes[p["mode"]]


def reshape(p: Params) -> Function:
    shape = p["shape"]
    if 0 not in shape:
        return lambda x: x.reshape(shape)
    return lambda x: x.reshape([n or x.shape[i] for i, n in enumerate(shape)])


def expand_dims(p: Params) -> Function:
    axes = p["axes"]

    def run(x: Tensor) -> Tensor:
        rank = x.ndim + len(axes)
        for axis in sorted(a % rank for a in axes):
            x = x.unsqueeze(axis)
        return x

    return run


def squeeze(p: Params) -> Function:
    return torch.squeeze if p["axes"] is None else lambda x: x.squeeze(tuple(p["axes"]))


def slice_by_index(p: Params) -> Function:
    begin, end, rank = p["begin"], p["end"], len(p["begin"])
    strides = p["stride"] or [1] * rank
    from_start, to_end, picked = (p[name] or [False] * rank for name in ("begin_mask", "end_mask", "squeeze_mask"))
    if min(strides) < 1:
        raise UnsupportedParameter("a stride below 1")
    first = [None if masked else b for masked, b in zip(from_start, begin, strict=True)]
    index = tuple(
        (first[i] or 0) if picked[i] else slice(first[i], None if to_end[i] else end[i], strides[i])
        for i in range(rank)
    )
    return lambda x: x[index]


def split(p: Params) -> Function:
    axis, sizes, count = p["axis"], p["split_sizes"], p["num_splits"]
    if sizes is not None:
        return lambda x: torch.split(x, sizes, axis)
    return lambda x: torch.tensor_split(x, count, axis)


def concat(p: Params) -> Function:
    if p["interleave"]:
        raise UnsupportedParameter("interleave")
    return lambda *values: torch.cat(values, p["axis"])


def reduction(of: Function) -> Callable[[Params], Function]:
    def build(p: Params) -> Function:
        def run(x: Tensor) -> Tensor:
            axes = list(range(x.ndim)) if p["axes"] is None else p["axes"]
            result: Tensor = of(x, axes, p["keep_dims"])
            return result

        return run

    return build


def cast(p: Params) -> Function:
    """Float types share one torch type here; the evaluator rounds what the program calls fp16."""
    kind = {"fp32": torch.float32, "fp16": torch.float32, "int32": torch.int32, "bool": torch.bool}.get(p["dtype"])
    if kind is None:
        raise UnsupportedParameter(f"dtype {p['dtype']}")
    return lambda x: x.to(kind)


def along(axis: int | None, value: Any, rank: int) -> Tensor:
    """A scalar, or a vector shaped to lie along `axis` of a tensor of this rank."""
    tensor = torch.as_tensor(value, dtype=torch.float32)
    if tensor.ndim == 0 or axis is None:
        return tensor
    return tensor.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


def quantize(p: Params) -> Function:
    limits = {"int8": (torch.int8, -128, 127), "uint8": (torch.uint8, 0, 255)}
    if p["output_dtype"] not in limits:
        raise UnsupportedParameter(f"output_dtype {p['output_dtype']}")
    dtype, low, high = limits[p["output_dtype"]]

    def run(x: Tensor) -> Tensor:
        scale, zero = (along(p["axis"], p[name], x.ndim) for name in ("scale", "zero_point"))
        return torch.round(x / scale).add_(zero).clamp_(low, high).to(dtype)

    return run


def dequantize(p: Params) -> Function:
    def run(x: Tensor) -> Tensor:
        scale, zero = (along(p["axis"], p[name], x.ndim) for name in ("scale", "zero_point"))
        return (x.float() - zero) * scale

    return run


def unary(of: Function) -> MilOp:
    return MilOp(("x",), lambda p: of)


def binary(of: Function) -> MilOp:
    return MilOp(("x", "y"), lambda p: of)


def reduced(of: Function) -> MilOp:
    return MilOp(("x",), reduction(of), {"axes": None, "keep_dims": False})


def moving(build: Callable[[Params], Function], tensors: Sequence[str] = ("x",), **params: Any) -> MilOp:
    return MilOp(tuple(tensors), build, params, moves=True)


_QUANTIZED = {"scale": _REQUIRED, "zero_point": 0, "axis": None}
_CONV = {"strides": None, "pad_type": "valid", "pad": None, "dilations": None, "groups": 1}

OPS: Mapping[str, MilOp] = {
    "conv": MilOp(("x", "weight", "bias"), conv, _CONV),
    "linear": MilOp(("x", "weight", "bias"), lambda p: F.linear),
    "matmul": MilOp(("x", "y"), matmul, {"transpose_x": False, "transpose_y": False}),
    "scaled_dot_product_attention": MilOp(("query", "key", "value", "attn_mask"), attention),
    "layer_norm": MilOp(("x", "gamma", "beta"), layer_norm, {"axes": _REQUIRED, "epsilon": 1e-5}),
    "softmax": MilOp(("x",), lambda p: partial(torch.softmax, dim=p["axis"]), {"axis": -1}),
    "gelu": MilOp(("x",), gelu, {"mode": "EXACT"}),
    "relu": unary(torch.relu),
    "silu": unary(F.silu),
    "sigmoid": unary(torch.sigmoid),
    "tanh": unary(torch.tanh),
    "erf": unary(torch.erf),
    "exp": unary(torch.exp),
    "sqrt": unary(torch.sqrt),
    "square": unary(torch.square),
    "rsqrt": MilOp(("x",), lambda p: lambda x: torch.rsqrt(x + p["epsilon"]), {"epsilon": 1e-12}),
    "add": binary(torch.add),
    "sub": binary(torch.sub),
    "mul": binary(torch.mul),
    "real_div": binary(torch.div),
    "pow": binary(torch.pow),
    "reduce_mean": reduced(torch.mean),
    "reduce_sum": reduced(torch.sum),
    "reduce_max": reduced(torch.amax),
    "quantize": MilOp(("input",), quantize, {**_QUANTIZED, "output_dtype": _REQUIRED}),
    "dequantize": MilOp(("input",), dequantize, _QUANTIZED),
    "cast": MilOp(("x",), cast, {"dtype": _REQUIRED}),
    "identity": moving(lambda p: lambda x: x),
    "reshape": moving(reshape, shape=_REQUIRED),
    "transpose": moving(lambda p: lambda x: x.permute(p["perm"]), perm=_REQUIRED),
    "expand_dims": moving(expand_dims, axes=_REQUIRED),
    "squeeze": moving(squeeze, axes=None),
    "slice_by_index": moving(
        slice_by_index, begin=_REQUIRED, end=_REQUIRED, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None
    ),
    "split": moving(split, axis=_REQUIRED, split_sizes=None, num_splits=None),
    "concat": moving(concat, ("values",), axis=_REQUIRED, interleave=False),
}
