"""timm's `VisionTransformer` and its distilled form with two heads."""

from __future__ import annotations

from typing import Any

from timm.layers.attention import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from wdp_edge.models import attentions
from wdp_edge.models.families.base import Family, attention_of, mlp_of, pool
from wdp_edge.models.partial import PartialBlock
from wdp_edge.models.sublayers import Sublayer


class PlainViT(Family):
    """ViT, DeiT, DeiT-3, DINOv2: class token, registers or neither; any pooling but that by attention."""

    name = "VisionTransformer"
    models = "vit_*, deit_*, deit3_*, DINOv2"
    types = (VisionTransformer, VisionTransformerDistilled)
    attentions = (Attention,)
    modules = ("vision_transformer", "deit")
    narrows_heads = True
    maps = True

    def unsupported(self, model: Any) -> str | None:
        if model.attn_pool is not None:
            return "it pools by attention"
        for block in self.blocks(model):
            if type(block) not in (Block, PartialBlock):
                return f"its blocks are {type(block).__name__}"
        return super().unsupported(model)

    def fixed_heads(self, model: Any) -> str | None:
        attn = next((b.attn for b in model.blocks if b.attn is not None), None)
        return None if attn is None or attentions.plain(attn) else "whose q and k are normalised"

    def truncate(self, model: Any, depth: int) -> None:
        model.blocks = model.blocks[:depth]

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

    def stream_parts(self, model: Any) -> tuple[list[nn.Module], list[str]]:
        norms = [model.patch_embed.norm, model.norm_pre, model.norm, model.fc_norm]
        return norms, ["cls_token", "dist_token", "reg_token", "pos_embed"]

    def sublayers(self, model: Any) -> list[Sublayer | None]:
        return [s for block in model.blocks for s in (_attention(block), _mlp(block))]

    def tokens(self, model: Any) -> int:
        return int(model.patch_embed.num_patches + model.num_prefix_tokens)


def _attention(block: Any) -> Sublayer | None:
    if block.attn is None:
        return None
    return attention_of(block.attn, block.norm1, block.attn, block.ls1, gamma=getattr(block.ls1, "gamma", None))


def _mlp(block: Any) -> Sublayer | None:
    if block.mlp is None:
        return None
    return mlp_of(block.mlp, block.norm2, block.ls2, gamma=getattr(block.ls2, "gamma", None))
