"""OpenAI's CLIP, and open_clip with towers of its own; its towers from timm have timm's names."""

from __future__ import annotations

from wdp_edge.models.layouts.layout import Layout, Weights, as_positions, as_token


def _openai(weights: Weights) -> Weights:
    """The projection is stored the other way round, and has no bias."""
    out = dict(weights)
    out["cls_token"], out["pos_embed"] = as_token(out["cls_token"]), as_positions(out["pos_embed"])
    if (projection := out.pop("proj", None)) is not None:
        out["head.weight"] = projection.T.contiguous()
        out["head.bias"] = projection.new_zeros(projection.shape[1])
    return out


OPENAI = Layout(
    name="OpenAI CLIP or open_clip",
    mark="conv1.weight",
    needs=("class_embedding",),
    renames=(
        (r"^conv1\.", "patch_embed.proj."),
        (r"^positional_embedding$", "pos_embed"),
        (r"^class_embedding$", "cls_token"),
        (r"^transformer\.resblocks\.", "blocks."),
        (r"^ln_pre\.", "norm_pre."),
        (r"^ln_post\.", "norm."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.ls_([12])\.gamma$", r".ls\1.gamma"),
        (r"\.attn\.in_proj_", ".attn.qkv."),
        (r"\.attn\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    ),
    finish=_openai,
)
