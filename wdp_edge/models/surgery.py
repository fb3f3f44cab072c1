"""Cutting a timm ViT: heads, their channels, hidden units, sub-layers, blocks and channels of the residual stream.

Slices and attributes: no wrappers, no index operators in the graph.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.partial import PartialBlock
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.stream import cut_stream, sliced
from wdp_edge.models.vit import structure_of
from wdp_edge.structure import Structure

Units = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Kept:
    """What stays, all ascending. `len(heads)` blocks are kept.

    heads, hidden: per block the heads and the hidden units; none of them: the sub-layer is gone.
    head_channels: per block the channels of each of its heads, the same ones for all; None: all of them.
    stream: channels of the residual stream; None: all of them.
    """

    heads: Units
    hidden: Units
    head_channels: Units | None = None
    stream: tuple[int, ...] | None = None

    def structure(self, dense: Structure) -> Structure:
        """What is left of `dense`."""
        small = dense.with_widths([len(h) for h in self.heads], [len(n) for n in self.hidden])
        if self.head_channels is not None:
            channels = zip(small.blocks, self.head_channels, strict=True)
            small = replace(small, blocks=tuple(replace(b, head_dim=len(c)) for b, c in channels))
        return small if self.stream is None else replace(small, embed_dim=len(self.stream))

    @classmethod
    def first(cls, structure: Structure) -> Kept:
        """The first units of every block: for models whose weights do not matter (yet)."""
        return cls(
            tuple(tuple(range(b.heads)) for b in structure.blocks),
            tuple(tuple(range(b.hidden)) for b in structure.blocks),
            tuple(tuple(range(b.head_dim)) for b in structure.blocks),
            tuple(range(structure.embed_dim)),
        )


def cut(model: Any, kept: Kept) -> Any:
    """A copy of the model with only what is kept; still a plain timm module.

    Removed units contribute nothing: the result equals the model with those heads' outputs (before `proj`) and those
    hidden activations (before `fc2`) set to zero. Removed channels of a head are gone from its q, k and v; a removed
    sub-layer leaves the stream as it is, biases included; a removed channel of the stream is gone from every tensor
    on it, so LayerNorms see the others only. Removed blocks are skipped; the head is left as it is.
    Raises InputError when channels are to be removed from heads whose q and k are normalised.
    """
    blocks = model.blocks
    model.blocks = nn.Sequential()
    try:
        small = copy.deepcopy(model)
        kept_blocks = [copy.deepcopy(b) for b in blocks[: len(kept.heads)]]
    finally:
        model.blocks = blocks
    channels = kept.head_channels or (None,) * len(kept.heads)
    parts = zip(kept_blocks, kept.heads, channels, kept.hidden, strict=True)
    small.blocks = nn.Sequential(*(_cut_block(*part) for part in parts))
    if hasattr(small, "feature_info"):
        small.feature_info = small.feature_info[: len(kept_blocks)]
    if kept.stream is not None and len(kept.stream) != small.embed_dim:
        cut_stream(small, torch.tensor(kept.stream))
    return small


def _cut_block(
    block: Any, heads: tuple[int, ...], channels: tuple[int, ...] | None, hidden: tuple[int, ...]
) -> nn.Module:
    """block is changed in place. Returns it, or what is left of it without whole sub-layers."""
    if heads:
        inside = range(block.attn.head_dim) if channels is None else channels
        _cut_heads(block.attn, torch.tensor(heads), torch.tensor(inside))
    if hidden:
        _cut_hidden(block.mlp, torch.tensor(hidden))
    return block if heads and hidden else PartialBlock(block, bool(heads), bool(hidden))


def _cut_heads(attn: Any, heads: Tensor, channels: Tensor) -> None:
    if len(heads) == attn.num_heads and len(channels) == attn.head_dim:
        return
    inner = (heads[:, None] * attn.head_dim + channels).flatten()
    rows = torch.cat([part * attn.attn_dim + inner for part in range(3)])
    attn.qkv = sliced(attn.qkv, rows, 0)
    attn.proj = sliced(attn.proj, inner, 1)
    attn.num_heads = len(heads)
    attn.attn_dim = len(inner)
    if len(channels) != attn.head_dim:
        _set_head_dim(attn, len(channels))


@torch.no_grad()
def _set_head_dim(attn: Any, head_dim: int) -> None:
    """timm scales q·k by head_dim^-0.5: what changes with it goes into q."""
    if not isinstance(attn.q_norm, nn.Identity):
        raise InputError(
            "Channels cannot be removed from attention heads whose q and k are normalised.",
            "Keep the head_dim of models with qk_norm.",
        )
    attn.head_dim, scale = head_dim, attn.scale
    attn.scale = head_dim**-0.5
    attn.qkv.weight[: attn.attn_dim] *= scale / attn.scale
    if attn.qkv.bias is not None:
        attn.qkv.bias[: attn.attn_dim] *= scale / attn.scale


def _cut_hidden(mlp: Any, units: Tensor) -> None:
    if len(units) == mlp.fc1.out_features:
        return
    mlp.fc1 = sliced(mlp.fc1, units, 0)
    mlp.fc2 = sliced(mlp.fc2, units, 1)


def build(spec: ModelSpec, structure: Structure) -> nn.Module:
    """A model of this structure with random weights, in eval mode: for timing, and to load weights into."""
    dense = create(spec)
    if structure == structure_of(dense):
        return dense
    return cut(dense, Kept.first(structure)).eval()
