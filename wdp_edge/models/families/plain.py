"""timm's `VisionTransformer` and its distilled form with two heads, and a block without attention, MLP or both."""

from __future__ import annotations

from typing import Any

from timm.layers.attention import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from wdp_edge.models import attentions
from wdp_edge.models.families.base import Family, attention_of, mlp_of, pool
from wdp_edge.models.sublayers import Sublayer

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


class PlainViT(Family):
    """ViT, DeiT, DeiT-3, DINOv2: class token, registers or neither; any pooling but that by attention."""

    name = "VisionTransformer"
    models = "vit_*, deit_*, deit3_*, DINOv2"
    types = (VisionTransformer, VisionTransformerDistilled)
    block_types = (Block, PartialBlock)
    attentions = (Attention,)
    modules = ("vision_transformer", "deit")
    narrows_heads = True
    maps = True
    added = ("cls_token", "dist_token", "reg_token", "pos_embed")

    def fixed_heads(self, model: Any) -> str | None:
        attn = next((b.attn for b in model.blocks if b.attn is not None), None)
        return None if attn is None or attentions.plain(attn) else "whose q and k are normalised"

    def partial(self, block: Any, attention: bool, mlp: bool) -> nn.Module:
        return PartialBlock(block, attention, mlp)

    def embed(self, model: Any, images: Tensor) -> Tensor:
        x = model._pos_embed(model.patch_embed(images))
        embedded: Tensor = model.norm_pre(model.patch_drop(x))
        return embedded

    def pooled(self, model: Any, x: Tensor, depth: int, norm: nn.Module) -> Tensor:
        x = norm(x)
        if isinstance(model, VisionTransformerDistilled):
            return model.head_drop(x[:, :2]).flatten(1)
        seen: Tensor = model.head_drop(model.fc_norm(pool(model, x)))
        return seen

    def heads(self, model: Any) -> list[nn.Module]:
        return [model.head, model.head_dist] if isinstance(model, VisionTransformerDistilled) else [model.head]

    def read_tokens(self, model: Any) -> int | None:
        if model.global_pool != "token":
            return None
        return 2 if isinstance(model, VisionTransformerDistilled) else 1

    def sublayers(self, model: Any) -> list[Sublayer | None]:
        return [s for block in model.blocks for s in (_attention(block), _mlp(block))]


def _attention(block: Any) -> Sublayer | None:
    if block.attn is None:
        return None
    return attention_of(block.attn, block.norm1, block.attn, block.ls1, gamma=getattr(block.ls1, "gamma", None))


def _mlp(block: Any) -> Sublayer | None:
    if block.mlp is None:
        return None
    return mlp_of(block.mlp, block.norm2, block.ls2, gamma=getattr(block.ls2, "gamma", None))
