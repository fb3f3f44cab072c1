"""timm's own keys, and Meta's and Microsoft's releases, which are nearly those."""

from __future__ import annotations

import re

from wdp_edge.models.layouts.layout import Layout, Weights, without_key_bias


def _releases(weights: Weights) -> Weights:
    """DINOv2's names for registers and SwiGLUs; blocks that its training keeps in chunks; DeiT III's layer scales."""
    out: Weights = {}
    for key, value in weights.items():
        key = re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key)
        key = re.sub(r"(\.mlp)\.w12\.", r"\1.fc1.", key)
        out[re.sub(r"(\.mlp)\.w3\.", r"\1.fc2.", key) if ".mlp.w3." in key else key] = value
    if "register_tokens" in out:
        out["reg_token"] = out.pop("register_tokens")
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return out


TIMM = Layout(
    name="timm",
    mark="patch_embed.proj.weight",
    drop=r"mask_token|decoder_.*|.*\.relative_position_index|.*\.attn_mask|.*\.relative_coords_table|pre_logits\..*",
    finish=_releases,
)


DINOV3_RELEASE = Layout(
    name="Meta DINOv3",
    mark="patch_embed.proj.weight",
    needs=("storage_tokens",),
    renames=(
        (r"^storage_tokens$", "reg_token"),
        (r"\.ls([12])\.gamma$", r".gamma_\1"),
        (r"\.mlp\.w1\.", ".mlp.fc1_g."),
        (r"\.mlp\.w2\.", ".mlp.fc1_x."),
        (r"\.mlp\.w3\.", ".mlp.fc2."),
    ),
    drop=r"mask_token|rope_embed\..*|.*\.bias_mask|local_cls_norm\..*",
    finish=without_key_bias,
)
