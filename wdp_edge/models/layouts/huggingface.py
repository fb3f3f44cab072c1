"""Hugging Face transformers: what versions 4 and 5 write, and what a state dict of version 5 holds in memory."""

from __future__ import annotations

import re

import torch

from wdp_edge.models.layouts.layout import Layout, Weights, as_positions, as_token

_EMBEDDINGS = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
)
_ATTENTION = (
    (r"\.attention\.(?:attention\.|self\.)?query\.", ".attn.q."),
    (r"\.attention\.(?:attention\.|self\.)?key\.", ".attn.k."),
    (r"\.attention\.(?:attention\.|self\.)?value\.", ".attn.v."),
    (r"\.(?:attention|self_attn)\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
)
_MLP = (
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.(?:weights_out|down_proj)\.", ".mlp.fc2."),
)
_NORMS = (
    (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^(?:layernorm|post_layernorm)\.", "norm."),
)


def _dinov2(weights: Weights) -> Weights:
    """Gate and value as one matrix; timm gives registers no position, so the class token keeps its own."""
    out = dict(weights)
    for key in [key for key in weights if ".mlp.gate_proj." in key]:
        up = key.replace("gate_proj", "up_proj")
        out[key.replace("gate_proj", "fc1")] = torch.cat([out.pop(key), out.pop(up)])
    if "reg_token" in out:
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return out


VIT = Layout(
    name="Hugging Face ViT, DeiT or DINOv2",
    mark="embeddings.patch_embeddings.projection.weight",
    needs=("embeddings.position_embeddings",),
    renames=(*_EMBEDDINGS, (r"^(?:encoder\.layer|layers)\.", "blocks."), *_ATTENTION, *_MLP, *_NORMS),
    heads={
        "classifier.weight": "head.weight",
        "classifier.bias": "head.bias",
        "cls_classifier.weight": "head.weight",
        "cls_classifier.bias": "head.bias",
        "distillation_classifier.weight": "head_dist.weight",
        "distillation_classifier.bias": "head_dist.bias",
    },
    drop=r"embeddings\.mask_token|pooler\..*",
    finish=_dinov2,
)


def _swin(weights: Weights) -> Weights:
    """timm has the patch merging at the beginning of a stage, others at the end of the one before."""
    return {re.sub(r"^layers\.(\d+)\.downsample", _next_stage, key): value for key, value in weights.items()}


def _next_stage(match: re.Match[str]) -> str:
    return f"layers.{int(match[1]) + 1}.downsample"


SWIN = Layout(
    name="Hugging Face Swin",
    mark="embeddings.patch_embeddings.projection.weight",
    needs=("embeddings.norm.weight",),
    renames=(
        *_EMBEDDINGS,
        (r"^embeddings\.norm\.", "patch_embed.norm."),
        (r"^encoder\.layers\.", "layers."),
        (
            r"\.attention\.(?:self|relative_position_bias)\.relative_position_bias_table$",
            ".attn.relative_position_bias_table",
        ),
        (r"\.attention\.self\.logit_scale$", ".attn.logit_scale"),
        (r"\.attention\.self\.continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
        *_ATTENTION,
        *_MLP,
        *_NORMS,
    ),
    heads={"classifier.weight": "head.fc.weight", "classifier.bias": "head.fc.bias"},
    drop=r"embeddings\.mask_token|.*\.relative_position_index|.*\.relative_coords_table",
    finish=_swin,
)


def _dinov3(weights: Weights) -> Weights:
    """timm's Eva names layer scales and the halves of a gated MLP in its own way."""
    out = {re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key): value for key, value in weights.items()}
    if any(".mlp.gate_proj." in key for key in out):
        out = {k.replace(".gate_proj.", ".fc1_g.").replace(".up_proj.", ".fc1_x."): v for k, v in out.items()}
    return {key.replace(".up_proj.", ".fc1."): value for key, value in out.items()}


DINOV3 = Layout(
    name="Hugging Face DINOv3",
    mark="embeddings.patch_embeddings.weight",
    renames=(
        (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
        *_EMBEDDINGS,
        (r"^(?:model\.)?layer\.", "blocks."),
        *_ATTENTION,
        *_MLP,
        *_NORMS,
    ),
    heads={"classifier.weight": "head.weight", "classifier.bias": "head.bias"},
    drop=r"embeddings\.mask_token|rope_embeddings\..*",
    finish=_dinov3,
)

_TWO_TOWERS = (
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^encoder\.layers\.", "blocks."),
    *_ATTENTION,
    *_NORMS,
)


def _positions(weights: Weights) -> Weights:
    out = {**weights, "pos_embed": as_positions(weights["pos_embed"])}
    return {**out, "cls_token": as_token(out["cls_token"])} if "cls_token" in out else out


def _siglip(weights: Weights) -> Weights:
    """timm keeps the query of the pooling apart from key and value."""
    out = _positions(weights)
    for kind in ("weight", "bias"):
        if (joined := out.pop(f"attn_pool.in_proj_{kind}", None)) is not None:
            width = len(joined) // 3
            out[f"attn_pool.q.{kind}"], out[f"attn_pool.kv.{kind}"] = joined[:width], joined[width:]
    return out


SIGLIP = Layout(
    name="Hugging Face SigLIP",
    mark="embeddings.position_embedding.weight",
    needs=("embeddings.patch_embedding.bias",),
    renames=(
        *_TWO_TOWERS,
        (r"^head\.probe$", "attn_pool.latent"),
        (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
        (r"^head\.attention\.", "attn_pool."),
        (r"^head\.layernorm\.", "attn_pool.norm."),
        (r"^head\.mlp\.", "attn_pool.mlp."),
    ),
    heads={"classifier.weight": "head.weight", "classifier.bias": "head.bias"},
    drop=r"embeddings\.position_ids",
    finish=_siglip,
)


def _clip(weights: Weights) -> Weights:
    """timm's head has a bias, the projection of CLIP has none."""
    out = _positions(weights)
    if "head.weight" in out and "head.bias" not in out:
        out["head.bias"] = out["head.weight"].new_zeros(len(out["head.weight"]))
    return out


CLIP = Layout(
    name="Hugging Face CLIP",
    mark="embeddings.position_embedding.weight",
    needs=("embeddings.class_embedding",),
    renames=_TWO_TOWERS,
    heads={
        "visual_projection.weight": "head.weight",
        "classifier.weight": "head.weight",
        "classifier.bias": "head.bias",
    },
    drop=r"embeddings\.position_ids",
    finish=_clip,
)
