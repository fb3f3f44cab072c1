"""The heads of models that put out a map of classes."""

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


class ConvMapHead(nn.Sequential):
    """A small convolutional head over the tokens of patches as a picture: [B, N, D] -> [B, classes, h, w].

    `nn.Sequential(Conv2d(D, channels, 3, padding=1), ReLU(), Conv2d(channels, classes, 1))`, whose weights have these
    names. N: as in `MapHead`.
    """

    def __init__(self, width: int, channels: int, classes: int, grid: tuple[int, int]) -> None:
        """grid: h and w."""
        super().__init__(nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, classes, 1))
        self.grid = grid

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def reads(self) -> nn.Conv2d:
        """The layer that sees the residual stream."""
        first = self[0]
        assert isinstance(first, nn.Conv2d)
        return first

    def forward(self, x: Tensor) -> Tensor:
        picture: Tensor = super().forward(as_map(x[:, -self.patches :], self.grid))
        return picture


def grid_of(head: nn.Module) -> tuple[int, int] | None:
    """h and w of the map that a head puts out; None for one that puts out no map."""
    return head.grid if isinstance(head, MapHead | ConvMapHead) else None


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """tokens: [B, h · w, C] in rows -> [B, C, h, w]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
