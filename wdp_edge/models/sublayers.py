"""Attention and MLP of any family seen alike: a norm, readers, a writer into the residual stream, and its scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Step = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Sublayer:
    """One sub-layer of a block. It adds post_norm(gamma · inner(norm(x))) to the stream [B, ..., D].

    module: the attention or the MLP itself; inner: how the block calls it. readers: the layers of `module` that read
    norm(x) (qkv or fc1); writer: its last one (proj or fc2). unit: inputs of the writer that belong to one unit, a head
    or a hidden unit. outlet: the module whose output errors of the writer are weighed at.
    gamma: [D] of the LayerScale, or None. post_norm: of families that normalise what is added; None elsewhere.
    enter: what happens to the stream before the sub-layer, where a new stage begins. arrange: the writer's inputs in
    the stream's order, where the sub-layer works in another one (windows).
    """

    module: Any
    norm: nn.Module
    inner: Step
    readers: tuple[nn.Linear, ...]
    writer: nn.Linear
    unit: int
    outlet: nn.Module
    gamma: Tensor | None = None
    post_norm: nn.Module | None = None
    enter: Step = same
    arrange: Step = same

    def __call__(self, x: Tensor) -> Tensor:
        """x: [B, ..., D] -> the stream after it: [B, ..., D]."""
        x = self.enter(x)
        return x + self.scale(self.inner(self.norm(x)))

    def scale(self, written: Tensor) -> Tensor:
        """What the writer gives -> what is added: [B, ..., D]."""
        if self.post_norm is not None:
            normed: Tensor = self.post_norm(written)
            return normed
        return written if self.gamma is None else written * self.gamma

    def written(self, x: Tensor) -> Tensor:
        """x: [B, ..., D] -> what the writer reads, in the stream's order: [B, ..., inputs]. The writer itself is not
        run."""

        def stop(_: nn.Module, args: tuple[Tensor]) -> None:
            raise _Read(args[0])

        hook = self.writer.register_forward_pre_hook(stop)
        try:
            self.inner(self.norm(self.enter(x)))
        except _Read as read:
            return self.arrange(read.inputs)
        finally:
            hook.remove()
        raise AssertionError("the sub-layer does not run its writer")

    def after(self, x: Tensor, written: Tensor) -> Tensor:
        """What `self(x)` gives, from what the writer reads: [B, ..., D]."""
        return self.enter(x) + self.scale(self.writer(written))


class _Read(Exception):
    """Ends a sub-layer where its writer begins."""

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs
