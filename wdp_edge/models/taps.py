"""Outputs of blocks before the last one, for a head that reads several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Tap:
    """A forward hook of a block: keeps what it puts out until the head takes it, under the model's final norms.

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
