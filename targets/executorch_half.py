"""A lowered model in half precision: weights and maths in float16, input and output float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wdp_edge.targets.lowered_parts import LoweredNorm

# A power of two is exact. Residual streams of large ViTs reach hundreds, and squares above 65504 do not exist in half;
# shrunk further, those of streams around 0.05 would lose digits.
_SHRINK = 2.0**-3
_LEAST = 2.0**-24  # of float16, above 0: the root of a norm's eps must not be that of 0


class HalfModel(nn.Module):
    """Runs `model` in half. Takes a lowered model over: it is changed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = replaced(model).half()

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, ...] float32 or uint8 -> float32."""
        return self.model(x.half()).float()


def replaced(model: nn.Module) -> nn.Module:
    """The model, its norms and activations in forms that half precision and the delegate can run."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LoweredNorm):
                setattr(module, name, HalfNorm(child))
            elif type(child).__name__ in ("GELU", "GELUTanh"):
                setattr(module, name, HalfGelu())
    return model


class HalfNorm(nn.Module):
    """`LoweredNorm` whose squares stay inside float16's range up to |x| = 2047."""

    scale: Tensor | None
    shrink: Tensor

    def __init__(self, norm: LoweredNorm) -> None:
        super().__init__()
        self.mean_square, self.mean = norm.mean_square, norm.mean
        self.mean_square.bias.mul_(_SHRINK**2).clamp_(min=_LEAST)
        self.register_buffer("scale", norm.scale)
        # A buffer, not a number: a number would become a float32 constant that is cast anew at every run.
        self.register_buffer("shrink", torch.tensor([_SHRINK]))

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] float16 -> [1, N, D] float16."""
        if self.mean is not None:
            x = x - self.mean(x)
        x = x * self.shrink
        normed = x * torch.rsqrt(self.mean_square(x * x))
        return normed if self.scale is None else normed * self.scale


class HalfGelu(nn.Module):
    """GELU in its tanh form, written as x · sigmoid(…): operators that XNNPACK has for float16.

    The two forms differ by 0.0005 at most, half a step of float16 where they do; XNNPACK has no GELU of its own in
    float16, and a portable one would split the delegate at every block.
    """

    linear: Tensor
    cubic: Tensor

    def __init__(self) -> None:
        super().__init__()
        slope = 2 * math.sqrt(2 / math.pi)
        self.register_buffer("linear", torch.tensor([slope]))
        self.register_buffer("cubic", torch.tensor([0.044715 * slope]))

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape, float16."""
        return x * torch.sigmoid(x * (x * x * self.cubic + self.linear))
