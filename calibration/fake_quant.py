"""int8 arithmetic imitated in float, to see in seconds what a precision does to a model before it is exported."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wdp_edge.calibration.ranges import Range, input_and_output_ranges
from wdp_edge.errors import InputError
from wdp_edge.lowering.vit import quantized_layers
from wdp_edge.protocols.target import Observer

_LEVELS, _LARGEST_WEIGHT = 255, 127


@dataclass(frozen=True)
class Scheme:
    """How integer layers compute. Weights are always int8, symmetric, with a scale per output channel.

    activations: "dynamic" takes the range of the values themselves, "static" a calibrated range of the whole tensor,
    "float" does not quantize them.
    per_token: a dynamic range for every row instead of one for the tensor, as XNNPACK and LiteRT do it.
    outputs: static layers also write int8, as ExecuTorch's do.
    convolutions: whether the patch embedding is quantized too.
    paired: no two neighbouring weights of the same sign add up to more than 128, as in our files for ONNX Runtime
    (`wdp_edge.targets.onnx.weights` says why).
    """

    activations: Literal["dynamic", "static", "float"]
    observer: Observer = Observer.MINMAX
    per_token: bool = False
    outputs: bool = False
    convolutions: bool = True
    paired: bool = False


DYNAMIC = Scheme("dynamic", per_token=True, convolutions=False)
STATIC = Scheme("static", Observer.MSE, outputs=True)
WEIGHT_ONLY = Scheme("float")


class FakeQuantized(nn.Module):
    """A linear layer or convolution whose weights, inputs and perhaps outputs take only values that int8 has.

    ranges: of its input and its output, for static activations.
    """

    def __init__(self, layer: nn.Module, scheme: Scheme, ranges: tuple[Range, Range] | None) -> None:
        super().__init__()
        copied: Any = copy.deepcopy(layer)
        copied.weight = nn.Parameter(round_weights(copied.weight, scheme.paired), requires_grad=False)
        self.layer = copied
        self.scheme, self.ranges = scheme, ranges

    def forward(self, x: Tensor) -> Tensor:
        """x: as the layer takes it -> as the layer gives it."""
        if self.ranges is not None:
            y = self.layer(round_activations(x, *self.ranges[0]))
            return round_activations(y, *self.ranges[1]) if self.scheme.outputs else y
        if self.scheme.activations == "dynamic":
            rows = self.scheme.per_token and isinstance(self.layer, nn.Linear)
            low, high = (x.amin(-1, True), x.amax(-1, True)) if rows else (x.amin(), x.amax())
            x = round_activations(x, low, high)
        return self.layer(x)


def round_weights(weight: Tensor, paired: bool = False) -> Tensor:
    """weight: [out, ...] -> the nearest values with int8 steps, one scale per output channel. paired: see `Scheme`."""
    largest = weight.abs().flatten(1).amax(1)
    if paired:
        largest = torch.maximum(largest, largest_pair(weight))
    scale = (largest.clamp_min(torch.finfo(weight.dtype).tiny) / _LARGEST_WEIGHT).reshape(-1, *[1] * (weight.ndim - 1))
    return (weight / scale).round() * scale


def largest_pair(weight: Tensor) -> Tensor:
    """weight: [out, ...] -> [out], the largest sum of two of the same sign.

    They are inputs 2k and 2k + 1 of a linear layer, and any two of a convolution.
    """
    rows = weight.flatten(1)
    if weight.ndim > 2:
        count = min(2, rows.shape[1])
        sums = [side.clamp_min(0).topk(count).values.sum(1) for side in (rows, -rows)]
    else:
        even = nn.functional.pad(rows, (0, rows.shape[1] % 2)).unflatten(1, (-1, 2))
        sums = [side.clamp_min(0).sum(2).amax(1) for side in (even, -even)]
    return torch.maximum(*sums)


def round_activations(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """x -> the nearest of 256 evenly spaced values from `low` to `high`; zero is always one of them."""
    low, high = low.clamp_max(0), high.clamp_min(0)
    scale = ((high - low) / _LEVELS).clamp_min(torch.finfo(x.dtype).tiny)
    zero = (-low / scale).round()
    return ((x / scale).round().add(zero).clamp(0, _LEVELS) - zero) * scale


def integer_layers(lowered: nn.Module, scheme: Scheme) -> list[str]:
    """Names of the layers that the scheme quantizes, in the order they run."""
    names = quantized_layers(lowered)
    return [n for n in names if scheme.convolutions or not isinstance(lowered.get_submodule(n), nn.Conv2d)]


def stand_ins(lowered: nn.Module, scheme: Scheme, calibration: Tensor | None) -> Mapping[str, FakeQuantized]:
    """The quantized form of every layer that the scheme quantizes, by its name.

    calibration: [n, 3, H, W]; static activations need it. Raises InputError when it is missing.
    """
    names = integer_layers(lowered, scheme)
    ranges: Mapping[str, tuple[Range, Range]] = {}
    if scheme.activations == "static":
        if calibration is None or not len(calibration):
            raise InputError("Static activations need calibration images.", "Give training images.")
        ranges = input_and_output_ranges(lowered, names, calibration, scheme.observer)
    return {n: FakeQuantized(lowered.get_submodule(n), scheme, ranges.get(n)) for n in names}
