"""The head of a model that puts out embeddings of length 1."""

from __future__ import annotations

from torch import Tensor, nn, rsqrt


class UnitLength(nn.Module):
    """x / |x|: [..., D] -> [..., D]. No weights: a saved model is the same with and without it.

    By the mean of squares, which also stays within half precision where their sum would not.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * (rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * x.shape[-1] ** -0.5)
