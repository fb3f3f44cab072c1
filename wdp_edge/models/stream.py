"""The residual stream of a model: everything that reads or writes it, and cutting channels out of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.models.families import family_of
from wdp_edge.models.linears import keep_channels, keep_inputs, keep_outputs, kept
from wdp_edge.models.map_head import ConvMapHead, taps_of


def norms_of(model: Any) -> list[nn.Module]:
    """Every norm over the channels of the stream, those of the embedding and the head among them."""
    family = family_of(model)
    norms = [n for s in family.sublayers(model) if s is not None for n in (s.norm, s.post_norm)]
    norms += family.stream_parts(model)[0]
    return [n for n in norms if n is not None and not isinstance(n, nn.Identity)]


def cut_stream(model: Any, channels: Tensor) -> None:
    """Removes all but these channels, [D'] int64, from every tensor on the stream, in place."""
    family = family_of(model)
    for block in family.blocks(model):
        block.attn = family.for_any_stream(block.attn)
    for norm in norms_of(model):
        keep_channels(norm, channels)
    for sublayer in family.sublayers(model):
        if sublayer is None:
            continue
        for reader in sublayer.readers:
            keep_inputs(reader, channels)
        keep_outputs(sublayer.writer, channels)
        if sublayer.gamma is not None:
            sublayer.gamma.data = kept(sublayer.gamma, channels).data
    _cut_embedding(model, channels, family.stream_parts(model)[1])
    for head in family.heads(model):
        inputs = torch.cat([channels + i * model.embed_dim for i in range(len(taps_of(head)) + 1)])
        if isinstance(head, nn.Linear):
            keep_inputs(head, inputs)
        elif isinstance(head, ConvMapHead):
            head.reads.weight = kept(head.reads.weight, inputs, 1)
            head.reads.in_channels = len(inputs)
    model.embed_dim = model.num_features = model.head_hidden_size = len(channels)
    for info in getattr(model, "feature_info", ()):
        info["num_chs"] = len(channels)


def _cut_embedding(model: Any, channels: Tensor, added: list[str]) -> None:
    conv = model.patch_embed.proj
    conv.weight = nn.Parameter(conv.weight.detach()[channels].clone())
    conv.out_channels = len(channels)
    if conv.bias is not None:
        conv.bias = kept(conv.bias, channels)
    for name in added:
        if getattr(model, name, None) is not None:
            setattr(model, name, kept(getattr(model, name), channels))
