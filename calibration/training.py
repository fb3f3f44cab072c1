"""int8 rounding while a model is trained: its weights learn to be right after it, not before.

Forward, layers compute as `simulation` has it. Backward, gradients pass as if nothing had been rounded, but not to what
a calibrated range cuts off (the straight-through estimator of Bengio, Léonard and Courville, arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import Scheme, round_activations, round_weights
from wdp_edge.calibration.ranges import Range, ranges_seen
from wdp_edge.calibration.simulation import RoundingLayers, activations, first_outputs, quantized_weights, scheme_of
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Target

Ranges = Mapping[str, tuple[Range, Range]]

# Judged by constants, not by a simulation: for training an approximation of the arithmetic is enough.
_NEAR: Mapping[str, Scheme] = {Precision.W8A8: Scheme("static")}


def trained_scheme(target: Target, precision: str) -> Scheme | None:
    """What is rounded in training for files of this precision; None where its files hold no integers."""
    return scheme_of(target, precision) or _NEAR.get(precision)


@dataclass
class Rounding:
    """The arithmetic of an int8 scheme around a model in training, as `wdp_edge.learn.recovery.Rounding` asks for it.

    calibration: [n, 3, H, W] float32 normalised, for static ranges. ranges: those in use; none before `observe`.
    """

    scheme: Scheme
    calibration: Tensor
    ranges: Ranges = field(default_factory=dict)

    @torch.no_grad()
    def observe(self, model: nn.Module) -> None:
        """Takes static ranges from the model as it is now."""
        if self.scheme.activations != "static":
            return
        device = next(model.parameters()).device
        weights, firsts, images = quantized_weights(model, self.scheme), first_outputs(model), self.calibration
        found = ranges_seen(lambda: activations(model, weights, firsts, images.to(device)), self.scheme.observer)
        self.ranges = {name: (_moved(read, device), _moved(written, device)) for name, (read, written) in found.items()}

    def layers(self, model: nn.Module, images: int) -> RoundingLayers:
        """A context in which the model's layers round. images: in the batch."""
        weights = quantized_weights(model, self.scheme)
        rounded = {name: straight_through(w, round_weights(w, self.scheme.paired)) for name, w in weights.items()}
        return RoundingLayers(weights, first_outputs(model), rounded, self.scheme, self.ranges, images, passing)

    def state(self) -> dict[str, Any]:
        return dict(self.ranges)

    def restore(self, state: dict[str, Any]) -> None:
        self.ranges = state


def _moved(ends: Range, device: torch.device) -> Range:
    return ends[0].to(device), ends[1].to(device)


def passing(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`round_activations` whose gradient is 1 inside the range and 0 outside."""
    low, high = low.detach().clamp_max(0), high.detach().clamp_min(0)
    inside = torch.minimum(torch.maximum(x, low), high)
    return straight_through(inside, round_activations(x, low, high))


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The second one's value with the first one's gradient."""
    return x + (rounded - x).detach()
