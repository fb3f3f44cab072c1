"""What an int8 scheme costs a model by itself: simulated on timm's own module, never on the lowered one.

Files are judged by it, so a fault of lowering must not show in it. Of lowering it knows two things, because ranges
depend on them: where a head reads the first tokens alone, later layers read nothing else; and q, k and v are layers of
their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from wdp_edge.calibration.fake_quant import DYNAMIC, STATIC, WEIGHT_ONLY, Scheme, round_activations, round_weights
from wdp_edge.calibration.ranges import Range, Seen, ranges_seen
from wdp_edge.models.families import unsupported
from wdp_edge.models.vit import read_tokens, sublayers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Target

SCHEMES: Mapping[str, Scheme] = {
    Precision.INT8_DYNAMIC: DYNAMIC,
    Precision.INT8_STATIC: STATIC,
    Precision.INT8_WEIGHT: WEIGHT_ONLY,
}
_BATCH = 16
# Layers that read nothing of the image: a file holds what they compute as a constant.
_CONSTANT = "cpb_mlp"
_FIRST = ", first tokens"
_FUSED = "qkv"
_OPERATORS = (F.linear, F.conv2d)


def scheme_of(target: Target, precision: str) -> Scheme | None:
    """How the target's files of this precision round; None for a precision that is not simulated.

    A target whose files round in another way than `SCHEMES` has a method `schemes` that says how.
    """
    own: Mapping[str, Scheme] = target.schemes() if hasattr(target, "schemes") else {}
    return own.get(precision, SCHEMES.get(precision))


@torch.no_grad()
def simulate(model: nn.Module, scheme: Scheme, images: Tensor, calibration: Tensor) -> Tensor:
    """Outputs of a timm model whose linear layers and convolutions round as the scheme says.

    model: in eval mode, not modified. images: [n, 3, H, W], normalised; calibration: the same, for static ranges.
    Returns [n, ...] float32.
    """
    weights, firsts = quantized_weights(model, scheme), first_outputs(model)
    ranges: Mapping[str, tuple[Range, Range]] = {}
    if scheme.activations == "static":
        ranges = ranges_seen(lambda: activations(model, weights, firsts, calibration), scheme.observer)
    rounded = {name: round_weights(weight, scheme.paired) for name, weight in weights.items()}
    found = []
    for part in images.split(_BATCH):
        with RoundingLayers(weights, firsts, rounded, scheme, ranges, len(part)):
            found.append(model(part))
    return torch.cat(found)


def quantized_weights(model: nn.Module, scheme: Scheme) -> dict[str, Tensor]:
    """Weights of the layers that the scheme quantizes, by the layer's name."""
    kinds = (nn.Linear, nn.Conv2d) if scheme.convolutions else (nn.Linear,)
    layers: list[tuple[str, Any]] = [(n, m) for n, m in model.named_modules() if isinstance(m, kinds)]
    return {name: layer.weight for name, layer in layers if _CONSTANT not in name}


@dataclass(frozen=True)
class First:
    """What of a layer's output is computed of the first tokens alone. outputs: how many of its channels, from 0 on."""

    tokens: int
    outputs: int


def first_outputs(model: nn.Module) -> dict[str, First]:
    """Layers that a file computes for a few tokens: what follows the last attention, and its q; by name."""
    if unsupported(model) or (tokens := read_tokens(model)) is None:
        return {}
    parts = sublayers(model)
    last = max((i for i, part in enumerate(parts) if part and i % 2 == 0), default=len(parts))
    names = {id(module): name for name, module in model.named_modules()}
    found = {}
    for number, part in enumerate(parts[last:]):
        for name, layer in part.module.named_modules() if part else ():
            if isinstance(layer, nn.Linear) and not (number == 0 and name in ("k_proj", "v_proj")):
                outputs = layer.out_features // 3 if name == "qkv" else layer.out_features
                found[names[id(layer)]] = First(tokens, outputs)
    return found


def activations(
    model: nn.Module, weights: Mapping[str, Tensor], firsts: Mapping[str, First], images: Tensor
) -> Iterator[Seen]:
    """Input and output of every layer, a few images at a time; of those in `firsts` also for the first tokens alone,
    and q, k and v by themselves."""
    for part in images.split(_BATCH):
        seen: Seen = {}
        with NotingLayers(weights, seen, firsts):
            model(part)
        yield seen | {own: (x, y) for name, (x, whole) in seen.items() for own, y in _written(name, whole)}


def _written(name: str, y: Tensor) -> list[tuple[str, Tensor]]:
    """What a layer writes, by the name of its range. One range for q, k and v together would be that of q and k, in
    which v has few values left. y: [..., outputs]."""
    if name.rpartition(".")[2] != _FUSED:
        return [(name, y)]
    return [(f"{name}, {part}", own) for part, own in zip(_FUSED, y.chunk(3, -1), strict=True)]


class Layers(TorchFunctionMode):
    """Catches layers by their weights, however the model calls them: some families do so without the module."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {id(weight): name for name, weight in weights.items()}

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func in _OPERATORS:
            x, weight, *rest = [*args, *(named.pop(key) for key in ("input", "weight")[len(args) :])]
            if (name := self.names.get(id(weight))) is not None:
                return self.layer(name, x, lambda x, weight=weight: func(x, weight, *rest, **named))
        return func(*args, **(kwargs or {}))

    def layer(self, name: str, x: Tensor, run: Any) -> Tensor:
        """The layer's output for its input. run: takes the input and, perhaps, another weight."""
        raise NotImplementedError


class NotingLayers(Layers):
    """Keeps inputs and outputs."""

    def __init__(self, weights: Mapping[str, Tensor], seen: Seen, firsts: Mapping[str, First] | None = None) -> None:
        super().__init__(weights)
        self.seen, self.firsts = seen, firsts or {}

    def layer(self, name: str, x: Tensor, run: Any) -> Tensor:
        y: Tensor = run(x)
        self.seen[name] = (x, y)
        if first := self.firsts.get(name):
            self.seen[name + _FIRST] = (x[:, : first.tokens], y[:, : first.tokens, : first.outputs])
        return y


class RoundingLayers(Layers):
    """Layers have only the weights, read and perhaps write only the values that int8 has."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        firsts: Mapping[str, First],
        rounded: Mapping[str, Tensor],
        scheme: Scheme,
        ranges: Mapping[str, tuple[Range, Range]],
        images: int,
        rounding: Callable[[Tensor, Tensor, Tensor], Tensor] = round_activations,
    ) -> None:
        """images: how many are in the batch. rounding: of activations, with a gradient of its own in training."""
        super().__init__(weights)
        self.rounded, self.scheme, self.ranges, self.images = rounded, scheme, ranges, images
        self.firsts, self.round = firsts, rounding

    def layer(self, name: str, x: Tensor, run: Any) -> Tensor:
        y = self.computed(name, x, self.rounded[name], run)
        if first := self.firsts.get(name):
            own = self.computed(name + _FIRST, x[:, : first.tokens], self.rounded[name], run)
            y[:, : first.tokens, : first.outputs] = own[..., : first.outputs]
        return y

    def computed(self, name: str, x: Tensor, weight: Tensor, run: Any) -> Tensor:
        """name: of the ranges."""
        if self.scheme.activations == "static":
            y: Tensor = run(self.round(x, *self.ranges[name][0]), weight)
            if not self.scheme.outputs:
                return y
            return torch.cat([self.round(part, *self.ranges[own][1]) for own, part in _written(name, y)], -1)
        if self.scheme.activations == "dynamic":
            rows = self.scheme.per_token and weight.ndim == 2
            x = self.round(x, *((x.amin(-1, True), x.amax(-1, True)) if rows else self.image_range(x)))
        rounded: Tensor = run(x, weight)
        return rounded

    def image_range(self, x: Tensor) -> Range:
        """One range for all that the layer reads of an image. x: [images · k, ...] -> [images · k, 1, ...]."""
        parts, repeats = x.reshape(self.images, -1), x.shape[0] // self.images
        shape = (-1, *[1] * (x.ndim - 1))
        low, high = (end.repeat_interleave(repeats).reshape(shape) for end in (parts.amin(1), parts.amax(1)))
        return low, high
