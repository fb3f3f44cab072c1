"""Cutting heads, hidden units and blocks out of a timm ViT: slices and attributes, no wrappers, no index operators."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.vit import structure_of
from wdp_edge.structure import Structure


@dataclass(frozen=True)
class Kept:
    """Which units stay: per kept block the heads and the hidden units, ascending. `len(heads)` blocks are kept."""

    heads: tuple[tuple[int, ...], ...]
    hidden: tuple[tuple[int, ...], ...]

    def structure(self, dense: Structure) -> Structure:
        return dense.with_widths([len(h) for h in self.heads], [len(n) for n in self.hidden])

    @classmethod
    def first(cls, structure: Structure) -> Kept:
        """The first units of every block: for models whose weights do not matter (yet)."""
        return cls(
            tuple(tuple(range(b.heads)) for b in structure.blocks),
            tuple(tuple(range(b.hidden)) for b in structure.blocks),
        )


def cut(model: Any, kept: Kept) -> Any:
    """A copy of the model with only the kept units; still a plain timm module.

    Removed units contribute nothing: the result equals the model with those heads' outputs (before `proj`) and those
    hidden activations (before `fc2`) set to zero. Removed blocks are skipped; the head is left as it is.
    """
    blocks = model.blocks
    model.blocks = nn.Sequential()
    try:
        small = copy.deepcopy(model)
        kept_blocks = [copy.deepcopy(b) for b in blocks[: len(kept.heads)]]
    finally:
        model.blocks = blocks
    small.blocks = nn.Sequential(*kept_blocks)
    if hasattr(small, "feature_info"):
        small.feature_info = small.feature_info[: len(kept_blocks)]
    for block, heads, hidden in zip(kept_blocks, kept.heads, kept.hidden, strict=True):
        _cut_heads(block.attn, torch.tensor(heads))
        _cut_hidden(block.mlp, torch.tensor(hidden))
    return small


def _cut_heads(attn: Any, heads: Tensor) -> None:
    if len(heads) == attn.num_heads:
        return
    channels = (heads[:, None] * attn.head_dim + torch.arange(attn.head_dim)).flatten()
    rows = torch.cat([part * attn.attn_dim + channels for part in range(3)])
    attn.qkv = _sliced(attn.qkv, rows, 0)
    attn.proj = _sliced(attn.proj, channels, 1)
    attn.num_heads = len(heads)
    attn.attn_dim = len(channels)


def _cut_hidden(mlp: Any, units: Tensor) -> None:
    if len(units) == mlp.fc1.out_features:
        return
    mlp.fc1 = _sliced(mlp.fc1, units, 0)
    mlp.fc2 = _sliced(mlp.fc2, units, 1)


def _sliced(linear: nn.Linear, index: Tensor, dim: int) -> nn.Linear:
    """linear with only these outputs (dim 0) or inputs (dim 1)."""
    weight = linear.weight.detach().index_select(dim, index).clone()
    small = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device=weight.device)
    small.weight = nn.Parameter(weight)
    if linear.bias is not None:
        bias = linear.bias.detach()
        small.bias = nn.Parameter((bias.index_select(0, index) if dim == 0 else bias).clone())
    return small


def build(spec: ModelSpec, structure: Structure) -> nn.Module:
    """A model of this structure with random weights, in eval mode: for timing, and to load weights into."""
    dense = create(spec)
    if structure == structure_of(dense):
        return dense
    return cut(dense, Kept.first(structure)).eval()
