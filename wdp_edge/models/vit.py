"""The timm `VisionTransformer` family: what its parts are called, and its Structure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from timm.layers import Mlp
from timm.layers.attention import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.partial import PartialBlock
from wdp_edge.structure import BlockWidths, Geometry, Structure, attention_counts, mlp_counts

FAMILIES = "timm VisionTransformer: vit_*, deit_* and deit3_* without distillation token, dinov2"


def check_supported(model: nn.Module, name: str, also: tuple[type, ...] = ()) -> None:
    """Raises InputError with the reason when the model has a part that the surgery does not know.

    also: further classes of the same build, for a caller that does not cut.
    """
    if reason := _unsupported(model, (VisionTransformer, *also)):
        raise InputError(f"'{name}' cannot be pruned: {reason}.", f"Known families: {FAMILIES}.")


def check_known(model: nn.Module, name: str) -> None:
    """Raises InputError unless the model is one that can be exported: those that can be pruned, and distilled ones."""
    check_supported(model, name, also=(VisionTransformerDistilled,))


def _unsupported(model: Any, known: tuple[type, ...]) -> str | None:
    if type(model) not in known:
        return f"it is a {type(model).__name__}"
    if model.attn_pool is not None:
        return "it pools by attention"
    for block in model.blocks:
        if type(block) not in (Block, PartialBlock):
            return f"its blocks are {type(block).__name__}"
        if reason := _unsupported_attention(block.attn) or _unsupported_mlp(block.mlp):
            return reason
    return None


def _unsupported_attention(attn: Any) -> str | None:
    if attn is None:
        return None
    if type(attn) is not Attention or attn.gate is not None:
        return "its attention is not the plain one"
    return None if isinstance(attn.norm, nn.Identity) else "its attention output is normalised across heads"


def _unsupported_mlp(mlp: Any) -> str | None:
    if mlp is None or (type(mlp) is Mlp and isinstance(mlp.norm, nn.Identity)):
        return None
    return f"its MLP is a {type(mlp).__name__}"


def structure_of(model: Any) -> Structure:
    """The widths that the model's tensors have now."""
    return Structure(int(model.embed_dim), tuple(_widths_of(block) for block in model.blocks))


def _widths_of(block: Any) -> BlockWidths:
    return BlockWidths(
        heads=int(block.attn.num_heads) if block.attn else 0,
        head_dim=int(block.attn.head_dim) if block.attn else 0,
        hidden=int(block.mlp.fc1.out_features) if block.mlp else 0,
    )


def tokens_of(model: Any) -> int:
    """Sequence length in the blocks: patches, class token and registers."""
    return int(model.patch_embed.num_patches + model.num_prefix_tokens)


def geometry_of(model: Any) -> Geometry:
    """Counts' constants: what is outside the blocks is read off the model, the rest follows from flags."""
    attn = next((b.attn for b in model.blocks if b.attn), None)
    writers = [w for b in model.blocks for w in (b.attn and b.attn.proj, b.mlp and b.mlp.fc2) if w]
    scales = [s for b in model.blocks for s in (b.ls1, b.ls2) if s]
    heads = [h for h in (model.head, getattr(model, "head_dist", None)) if isinstance(h, nn.Linear)]
    structure = structure_of(model)
    macs = model.patch_embed.num_patches * model.patch_embed.proj.weight.numel() + sum(h.weight.numel() for h in heads)
    flags = Geometry(
        tokens=tokens_of(model),
        channel_parameters=0,
        channel_macs=int(macs) // structure.embed_dim,
        fixed_parameters=sum(h.bias.numel() for h in heads),
        qkv_bias=attn is not None and attn.qkv.bias is not None,
        proj_bias=any(w.bias is not None for w in writers),
        layer_scale=any(not isinstance(s, nn.Identity) for s in scales),
        qk_norm=attn is not None and not isinstance(attn.q_norm, nn.Identity),
    )
    in_blocks = sum(
        part(b, structure.embed_dim, flags).parameters
        for b in structure.blocks
        for part in (attention_counts, mlp_counts)
    )
    outside = sum(p.numel() for p in model.parameters()) - in_blocks - flags.fixed_parameters
    per_channel, rest = divmod(outside, structure.embed_dim)
    return replace(flags, channel_parameters=per_channel, fixed_parameters=flags.fixed_parameters + rest)


def embed(model: Any, images: Tensor) -> Tensor:
    """images: [B, 3, H, W] float32 -> tokens before the first block: [B, N, D]."""
    x = model.patch_embed(images)
    x = model._pos_embed(x)
    return model.norm_pre(model.patch_drop(x))


def classify(model: Any, x: Tensor) -> Tensor:
    """x: [B, N, D] tokens after the last block -> the model's outputs: [B, classes], or [B, D] embeddings."""
    return model.forward_head(model.norm(x))


def pooled(model: Any, x: Tensor, norm: nn.Module | None = None) -> Tensor:
    """x: [B, N, D] tokens after some block -> what the head's linear layer sees: [B, D].

    norm: an exit's own norm instead of the model's final one.
    """
    x = (norm or model.norm)(x)
    return model.head_drop(model.fc_norm(model.pool(x)))


def set_fused_attention(model: nn.Module, fused: bool) -> None:
    """Chooses the attention kernel of every block (`scaled_dot_product_attention` or plain matrix products)."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused_attn = fused


def fused_attention_pays(tokens: int) -> bool:
    """Whether the fused kernel trains faster on CPU.

    Measured on two AVX-512 cores: its backward pass takes 13 ms for 17 tokens where plain products take 1;
    short sequences do not need its memory saving either.
    """
    return tokens > 128


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """images: [n, 3, H, W] float32 -> [n, classes] float32, in batches."""
    model.eval()
    return torch.cat([model(part).float() for part in images.split(batch_size)])
