"""timm's `Eva`: EVA-02, DINOv3 and other models with a rotary embedding."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.layers.attention import AttentionRope
from timm.models.eva import Eva, EvaAttention, EvaBlock
from torch import Tensor, nn

from wdp_edge.models.families.base import Family, attention_of, mlp_of, pool
from wdp_edge.models.families.plain import ATTENTION, MLP
from wdp_edge.models.sublayers import Step, Sublayer


class PartialEvaBlock(EvaBlock):
    """A timm `EvaBlock` of which whole sub-layers are gone, as in `PartialBlock`."""

    norm1: Any
    attn: Any
    gamma_1: Any
    drop_path1: Any
    norm2: Any
    mlp: Any
    gamma_2: Any
    drop_path2: Any

    def __init__(self, block: Any, attention: bool, mlp: bool) -> None:
        """Takes over the sub-layers of `block` that stay."""
        nn.Module.__init__(self)
        for names, gamma, stays in ((ATTENTION, "gamma_1", attention), (MLP, "gamma_2", mlp)):
            for name in (*(n for n in names if not n.startswith("ls")), gamma):
                setattr(self, name, getattr(block, name) if stays else None)

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """x: [B, N, D], rope: [patches, 2 · head_dim] -> [B, N, D]."""
        if self.attn is not None:
            attended = self.attn(self.norm1(x), rope=rope, attn_mask=attn_mask, is_causal=is_causal)
            x = x + self.drop_path1(attended if self.gamma_1 is None else self.gamma_1 * attended)
        if self.mlp is not None:
            written = self.mlp(self.norm2(x))
            x = x + self.drop_path2(written if self.gamma_2 is None else self.gamma_2 * written)
        return x


class EvaFamily(Family):
    """Rotary embeddings that are the same for all heads; they tie the channels of a head to each other."""

    name = "Eva"
    models = "eva02_*, vit_*_dinov3, vit_*_rope_*"
    types = (Eva,)
    block_types = (EvaBlock, PartialEvaBlock)
    attentions = (EvaAttention, AttentionRope)
    modules = ("eva",)
    maps = True
    added = ("cls_token", "reg_token", "pos_embed")

    def unsupported(self, model: Any) -> str | None:
        return "its rotary embedding is learned for every head" if model.rope_mixed else super().unsupported(model)

    def fixed_heads(self, model: Any) -> str | None:
        return "with a rotary embedding"

    def partial(self, block: Any, attention: bool, mlp: bool) -> nn.Module:
        return PartialEvaBlock(block, attention, mlp)

    def rotation(self, model: Any) -> Tensor | None:
        """Sines and cosines that rotate q and k of every patch: [patches, 2 · head_dim]; None where there are none."""
        if model.rope is None:
            return None
        fixed = hasattr(model.rope, "feat_shape") and not model.dynamic_img_size
        turned: Tensor = model.rope.get_embed() if fixed else model.rope.get_embed(shape=model.patch_embed.grid_size)
        return turned

    def embed(self, model: Any, images: Tensor) -> Tensor:
        x, _ = model._pos_embed(model.patch_embed(images))
        embedded: Tensor = model.norm_pre(x)
        return embedded

    def block(self, model: Any, number: int) -> Step:
        return partial(model.blocks[number], rope=self.rotation(model))

    def pooled(self, model: Any, x: Tensor, depth: int, norm: nn.Module) -> Tensor:
        seen: Tensor = model.head_drop(model.fc_norm(pool(model, norm(x))))
        return seen

    def read_tokens(self, model: Any) -> int | None:
        return 1 if model.global_pool == "token" else None

    def sublayers(self, model: Any) -> list[Sublayer | None]:
        rope = self.rotation(model)
        return [s for block in model.blocks for s in (_attention(block, rope), _mlp(block))]


def _attention(block: Any, rope: Tensor | None) -> Sublayer | None:
    if block.attn is None:
        return None
    inner = partial(block.attn, rope=rope)
    return attention_of(block.attn, block.norm1, inner, block.drop_path1, gamma=block.gamma_1)


def _mlp(block: Any) -> Sublayer | None:
    if block.mlp is None:
        return None
    return mlp_of(block.mlp, block.norm2, block.drop_path2, gamma=block.gamma_2)
