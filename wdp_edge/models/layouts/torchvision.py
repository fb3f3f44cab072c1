"""torchvision's VisionTransformer and SwinTransformer."""

from __future__ import annotations

import re

from wdp_edge.models.layouts.layout import Layout, Weights, without_key_bias

TORCHVISION_VIT = Layout(
    name="torchvision VisionTransformer",
    mark="conv_proj.weight",
    needs=("class_token",),
    renames=(
        (r"^conv_proj\.", "patch_embed.proj."),
        (r"^class_token$", "cls_token"),
        (r"^encoder\.pos_embedding$", "pos_embed"),
        (r"^encoder\.layers\.encoder_layer_", "blocks."),
        (r"^encoder\.ln\.", "norm."),
        (r"^heads\.(?:head|0)\.", "head."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."),
        (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
        (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    ),
)


def _stage(match: re.Match[str]) -> str:
    """features.1, .3, .5, .7 are stages; between them are the patch mergings, which timm counts to the stage after."""
    number = int(match[1])
    return f"layers.{number // 2}." + (f"blocks.{match[2]}" if number % 2 else f"downsample.{match[2]}")


def _swin(weights: Weights) -> Weights:
    """Swin V2 holds the bias of the keys at zero when it runs; timm has none."""
    named = {re.sub(r"^features\.(\d+)\.(\w+)", _stage, key): value for key, value in weights.items()}
    return without_key_bias(named) if any(key.endswith(".logit_scale") for key in named) else named


TORCHVISION_SWIN = Layout(
    name="torchvision SwinTransformer",
    mark="features.0.0.weight",
    needs=("features.1.0.attn.relative_position_bias_table", "features.1.0.attn.logit_scale"),
    renames=(
        (r"^features\.0\.0\.", "patch_embed.proj."),
        (r"^features\.0\.2\.", "patch_embed.norm."),
        (r"^head\.", "head.fc."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
    ),
    drop=r".*\.relative_position_index|.*\.relative_coords_table",
    finish=_swin,
)
