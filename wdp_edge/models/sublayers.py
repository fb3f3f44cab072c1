"""Attention and MLP of a timm ViT seen alike: a norm, a reader, a writer into the residual stream, and its scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Sublayer:
    """One sub-layer of a block. It adds scale(inner(norm(x))) to the stream.

    reader: first layer of `inner` (qkv or fc1); writer: its last one (proj or fc2). unit: inputs of the writer that
    belong to one unit, a head or a hidden unit.
    """

    norm: nn.Module
    inner: nn.Module
    reader: nn.Linear
    writer: nn.Linear
    scale: nn.Module
    unit: int

    def __call__(self, x: Tensor) -> Tensor:
        """x: [B, N, D] -> the stream after it: [B, N, D]."""
        added: Tensor = self.scale(self.inner(self.norm(x)))
        return x + added

    def written(self, x: Tensor) -> Tensor:
        """x: [B, N, D] -> what the writer reads: [B, N, inputs]."""
        seen: list[Tensor] = []
        hook = self.writer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.inner(self.norm(x))
        finally:
            hook.remove()
        return seen[0]

    @property
    def gamma(self) -> Tensor | None:
        """[D] of the LayerScale, or None where there is none."""
        gamma: Tensor | None = getattr(self.scale, "gamma", None)
        return gamma


def attention(block: Any) -> Sublayer | None:
    """The block's attention, or None where it has none."""
    if (attn := block.attn) is None:
        return None
    return Sublayer(block.norm1, attn, attn.qkv, attn.proj, block.ls1, attn.head_dim)


def mlp(block: Any) -> Sublayer | None:
    """The block's MLP, or None where it has none."""
    if block.mlp is None:
        return None
    return Sublayer(block.norm2, block.mlp, block.mlp.fc1, block.mlp.fc2, block.ls2, 1)


def sublayers(model: Any) -> list[Sublayer | None]:
    """Attention and MLP of every block, in the order they run; None for those that are gone."""
    return [s for block in model.blocks for s in (attention(block), mlp(block))]
