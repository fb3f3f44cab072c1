"""The residual stream of a timm ViT: everything that reads or writes it, and cutting channels out of it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def norms_of(model: Any) -> list[nn.Module]:
    """Every norm over the channels of the stream, those of the embedding and the head among them."""
    norms = [n for b in model.blocks for n in (b.norm1, b.norm2)]
    norms += [model.patch_embed.norm, model.norm_pre, model.norm, model.fc_norm]
    return [n for n in norms if n is not None and not isinstance(n, nn.Identity)]


def cut_stream(model: Any, channels: Tensor) -> None:
    """Removes all but these channels, [D'] int64, from every tensor on the stream, in place."""
    _cut_embedding(model, channels)
    for block in model.blocks:
        if block.attn is not None:
            block.attn.qkv = sliced(block.attn.qkv, channels, 1)
            block.attn.proj = sliced(block.attn.proj, channels, 0)
        if block.mlp is not None:
            block.mlp.fc1 = sliced(block.mlp.fc1, channels, 1)
            block.mlp.fc2 = sliced(block.mlp.fc2, channels, 0)
        for scale in (block.ls1, block.ls2):
            if scale is not None and not isinstance(scale, nn.Identity):
                scale.gamma = _kept(scale.gamma, channels)
    for norm in norms_of(model):
        _cut_norm(norm, channels)
    if isinstance(model.head, nn.Linear):
        model.head = sliced(model.head, channels, 1)
    model.embed_dim = model.num_features = model.head_hidden_size = len(channels)
    for info in getattr(model, "feature_info", ()):
        info["num_chs"] = len(channels)


def _cut_embedding(model: Any, channels: Tensor) -> None:
    conv = model.patch_embed.proj
    conv.weight = nn.Parameter(conv.weight.detach()[channels].clone())
    conv.out_channels = len(channels)
    if conv.bias is not None:
        conv.bias = _kept(conv.bias, channels)
    for name in ("cls_token", "reg_token", "pos_embed"):
        if getattr(model, name) is not None:
            setattr(model, name, _kept(getattr(model, name), channels))


def _cut_norm(norm: Any, channels: Tensor) -> None:
    norm.normalized_shape = (len(channels),)
    for name in ("weight", "bias"):
        if getattr(norm, name, None) is not None:
            setattr(norm, name, _kept(getattr(norm, name), channels))


def _kept(parameter: Tensor, channels: Tensor) -> nn.Parameter:
    """parameter: [..., D] -> [..., D']."""
    return nn.Parameter(parameter.detach()[..., channels].clone())


def sliced(linear: nn.Linear, index: Tensor, dim: int) -> nn.Linear:
    """linear with only these outputs (dim 0) or inputs (dim 1)."""
    weight = linear.weight.detach().index_select(dim, index).clone()
    small = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device=weight.device)
    small.weight = nn.Parameter(weight)
    if linear.bias is not None:
        bias = linear.bias.detach()
        small.bias = nn.Parameter((bias.index_select(0, index) if dim == 0 else bias).clone())
    return small
