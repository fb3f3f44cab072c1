"""A block without its attention, its MLP, or both."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Block
from torch import Tensor, nn

ATTENTION = ("norm1", "attn", "ls1", "drop_path1")
MLP = ("norm2", "mlp", "ls2", "drop_path2")


class PartialBlock(Block):
    """A timm `Block` of which whole sub-layers are gone, with their norm, weights and LayerScale.

    What is gone is None; what is left is called as in `Block`, so saved weights keep their names.
    """

    # Of any kind that timm puts there.
    norm1: Any
    attn: Any
    ls1: Any
    drop_path1: Any
    norm2: Any
    mlp: Any
    ls2: Any
    drop_path2: Any

    def __init__(self, block: Any, attention: bool, mlp: bool) -> None:
        """Takes over the sub-layers of `block` that stay."""
        nn.Module.__init__(self)
        for name in ATTENTION:
            setattr(self, name, getattr(block, name) if attention else None)
        for name in MLP:
            setattr(self, name, getattr(block, name) if mlp else None)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x: [B, N, D] -> [B, N, D]."""
        if self.attn is not None:
            attended = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
            x = x + self.drop_path1(self.ls1(attended))
        if self.mlp is not None:
            x = x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return x
