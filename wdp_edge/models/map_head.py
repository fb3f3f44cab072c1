"""The heads of models that output a map of classes, and the blocks before the last one that they may read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Tap:
    """A forward hook of a block: keeps what it outputs until the head takes it, under the model's final norms.

    A copy of the model has copies of its taps. They hold nothing between two passes.
    """

    def __init__(self, block: int, norms: tuple[nn.Module, ...]) -> None:
        """block: its number, from 1."""
        self.block, self.norms = block, norms
        self.seen: Tensor | None = None

    def __call__(self, module: nn.Module, arguments: Any, output: Tensor) -> None:
        self.seen = output

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "seen": None}

    def take(self) -> Tensor:
        """The block's output, normed: [B, N, D]."""
        if self.seen is None:
            raise RuntimeError(f"Block {self.block} has not run since its output was taken.")
        x, self.seen = self.seen, None
        for norm in self.norms:
            x = norm(x)
        return x


def move_taps(taps: Sequence[Tap], blocks: Sequence[nn.Module]) -> None:
    """Taps of blocks that are not among these first ones go to the last of them."""
    for tap in taps:
        if tap.block > len(blocks):
            tap.block = len(blocks)
            blocks[-1].register_forward_hook(tap)


def carry_taps(old: nn.Module, new: nn.Module) -> None:
    """`new` takes the place of the block `old`: what was tapped stays so."""
    for hook in old._forward_hooks.values():
        if isinstance(hook, Tap):
            new.register_forward_hook(hook)


class MapHead(nn.Linear):
    """A linear layer over the token of every patch, given as a picture: [B, N, D] -> [B, classes, h, w].

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

    def forward(self, x: Tensor) -> Tensor:
        tokens = read(x, self.taps, self.patches)
        picture: Tensor = super().forward(as_map(tokens, self.grid))  # type: ignore[no-untyped-call]
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
