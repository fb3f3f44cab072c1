"""The heads of models that put out a map of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.models.taps import Tap


class MapHead(nn.Linear):
    """A linear layer over the token of every patch, put out as a picture: [B, N, D] -> [B, classes, h, w].

    N: the h · w patches in rows, after any class token and registers, which are left out. Its weights are timm's linear
    head's and have their names: a saved model is the same with and without this class. taps: blocks before the last one
    that it reads, too; its inputs are then D channels of each, one block after the other.
    """

    def __init__(self, linear: nn.Linear, grid: tuple[int, int], taps: Sequence[Tap] = ()) -> None:
        """Takes over the weights of `linear`. grid: h and w."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.grid, self.taps = grid, tuple(taps)

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    def forward(self, x: Tensor) -> Tensor:
        return as_map(super().forward(read(x, self.taps, self.patches)), self.grid)


class ConvMapHead(nn.Sequential):
    """A small convolutional head over the tokens of patches as a picture: [B, N, D] -> [B, classes, h, w].

    `nn.Sequential(Conv2d(D, channels, 3, padding=1), ReLU(), Conv2d(channels, classes, 1))`, whose weights have these
    names. N, taps: as in `MapHead`.
    """

    def __init__(
        self, width: int, channels: int, classes: int, grid: tuple[int, int], taps: Sequence[Tap] = ()
    ) -> None:
        """width: of the stream. grid: h and w."""
        inputs = width * (len(taps) + 1)
        super().__init__(nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, classes, 1))
        self.grid, self.taps = grid, tuple(taps)

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
        picture: Tensor = super().forward(as_map(read(x, self.taps, self.patches), self.grid))
        return picture


def is_map_head(head: object) -> bool:
    return isinstance(head, MapHead | ConvMapHead)


def taps_of(head: Any) -> tuple[Tap, ...]:
    """The blocks before the last one that a head reads; none for most."""
    taps: tuple[Tap, ...] = head.taps if is_map_head(head) else ()
    return taps


def read(x: Tensor, taps: Sequence[Tap], patches: int) -> Tensor:
    """x: [B, N, D] tokens of the last block, normed -> its patches after those of the taps: [B, patches, inputs]."""
    seen = [*(tap.take() for tap in taps), x]
    return torch.cat([tokens[:, -patches:] for tokens in seen], -1)


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """tokens: [B, h · w, C] in rows -> [B, C, h, w]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
