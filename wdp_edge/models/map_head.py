"""The head of a model that puts out a map of classes."""

from __future__ import annotations

from torch import Tensor, nn


class MapHead(nn.Linear):
    """A linear layer over the token of every patch, put out as a picture: [B, N, D] -> [B, classes, h, w].

    N: the h · w patches in rows, after any class token and registers, which are left out. Its weights are timm's linear
    head's and have their names: a saved model is the same with and without this class.
    """

    def __init__(self, linear: nn.Linear, grid: tuple[int, int]) -> None:
        """Takes over the weights of `linear`. grid: h and w."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.grid = grid

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def forward(self, x: Tensor) -> Tensor:
        return as_map(super().forward(x[:, -self.patches :]), self.grid)


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """tokens: [B, h · w, C] in rows -> [B, C, h, w]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
