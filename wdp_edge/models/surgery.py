"""Cutting a model: heads, their channels, hidden units, sub-layers and blocks.

Slices and attributes: no wrappers, no index operators in the graph.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.models import attentions, mlps
from wdp_edge.models.families import family_of
from wdp_edge.models.families.base import Family
from wdp_edge.models.map_head import carry_taps, move_taps, taps_of
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure
from wdp_edge.models.vit import structure_of

Units = tuple[tuple[int, ...], ...]
KeptOfBlock = tuple[tuple[int, ...], tuple[int, ...] | None, tuple[int, ...]]


@dataclass(frozen=True)
class Kept:
    """What stays, all ascending. `len(heads)` blocks are kept.

    heads, hidden: per block the heads and the hidden units; none of them: the sub-layer is gone.
    head_channels: per block the channels of each of its heads, the same ones for all; None: all of them.
    """

    heads: Units
    hidden: Units
    head_channels: Units | None = None

    def structure(self, dense: Structure) -> Structure:
        """What is left of `dense`."""
        channels = None if self.head_channels is None else [len(c) for c in self.head_channels]
        return dense.with_widths([len(h) for h in self.heads], [len(n) for n in self.hidden], channels)

    def of_block(self, number: int) -> KeptOfBlock:
        """Heads, channels of each and hidden units of one block."""
        channels = None if self.head_channels is None else self.head_channels[number]
        return self.heads[number], channels, self.hidden[number]

    @classmethod
    def first(cls, structure: Structure) -> Kept:
        """The first units of every block: for models whose weights do not matter (yet)."""
        return cls(
            tuple(tuple(range(b.heads)) for b in structure.blocks),
            tuple(tuple(range(b.hidden)) for b in structure.blocks),
            tuple(tuple(range(b.head_dim)) for b in structure.blocks),
        )


def cut(model: Any, kept: Kept) -> Any:
    """A copy of the model with only what is kept; still a plain timm module.

    Removed units contribute nothing: the result equals the model with those heads' outputs (before `proj`) and those
    hidden activations (before `fc2`) set to zero. Removed channels of a head are gone from its q, k and v; a removed
    sub-layer leaves the stream as it is, biases included. Removed blocks are skipped; the head is left as it is.
    Raises InputError for what the family does not offer: channels of heads whose q and k are normalised, for one.
    """
    family = family_of(model)
    if any(tap.block > len(kept.heads) for head in family.heads(model) for tap in taps_of(head)):
        raise InputError("The head reads blocks that would be removed.", "Keep the depth of this model.")
    small = copy.deepcopy(model)
    family.truncate(small, len(kept.heads))
    for number, block in enumerate(family.blocks(small)):
        if (left := _cut_block(family, small, block, kept.of_block(number))) is not block:
            family.replace_block(small, number, left)
    if hasattr(small, "feature_info"):
        family.trim_features(small)
    return small


def _cut_block(family: Family, model: Any, block: Any, kept: KeptOfBlock) -> nn.Module:
    """block is changed in place. Returns it, or what is left of it without whole sub-layers."""
    heads, channels, hidden = kept
    if heads:
        full = attentions.head_dim(block.attn)
        inside = range(full) if channels is None else channels
        if len(inside) != full and (reason := family.fixed_heads(model)):
            raise InputError(
                f"Channels cannot be removed from attention heads {reason}.", "Keep the head_dim of this model."
            )
        block.attn = attentions.cut_heads(block.attn, torch.tensor(heads), torch.tensor(inside))
    if hidden:
        mlps.cut_hidden(block.mlp, torch.tensor(hidden))
    if heads and hidden:
        return block
    left = family.partial(block, bool(heads), bool(hidden))
    carry_taps(block, left)
    return left


def build(spec: ModelSpec, structure: Structure) -> nn.Module:
    """A model of this structure with random weights, in eval mode: for timing, and to load weights into.

    Raises InputError for a structure that is not part of the model.
    """
    return part_of(create(spec), spec, structure)


def part_of(dense: nn.Module, spec: ModelSpec, structure: Structure) -> nn.Module:
    """The first units of `dense`, which may be changed for it, as a model of this structure. Raises as `build` does.

    Where blocks that the head reads are gone it reads the last one in their place, so that it costs what it costs.
    """
    whole = structure_of(dense)
    if structure == whole:
        return dense
    if excess := structure.excess(whole):
        raise InputError(
            f"'{spec.name}' with {dict(spec.args)} has no such part: {excess}.",
            "Check the structure.json it came from.",
        )
    blocks = family_of(dense).blocks(dense)[: len(structure.blocks)]
    for head in family_of(dense).heads(dense):
        move_taps(taps_of(head), blocks)
    return cut(dense, Kept.first(structure)).eval()
