"""What is left of a Vision Transformer: its widths per block and its depth, and the counts that follow from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from wdp_edge.errors import InputError

STRUCTURE_VERSION = 1


@dataclass(frozen=True)
class BlockWidths:
    """Widths of one block: attention heads, channels of each head, hidden units of the MLP.

    No heads: the block has no attention (and `head_dim` is 0). No hidden units: it has no MLP.
    """

    heads: int
    head_dim: int
    hidden: int

    def __post_init__(self) -> None:
        if self.heads == 0:
            object.__setattr__(self, "head_dim", 0)


@dataclass(frozen=True)
class Structure:
    """Widths of every kept block and of the residual stream; the depth is the exit.

    Keeping k of L blocks means: the classifier stands after block k, later blocks are gone.
    """

    embed_dim: int
    blocks: tuple[BlockWidths, ...]

    def __post_init__(self) -> None:
        widths = [self.embed_dim, *(n for b in self.blocks for n in (b.heads, b.head_dim, b.hidden))]
        headless = any(b.heads > 0 and b.head_dim < 1 for b in self.blocks)
        if not self.blocks or any(not isinstance(n, int) or n < 0 for n in widths) or headless or not self.embed_dim:
            raise InputError(
                f"A structure needs at least one block, and channels in its stream and heads, not {self}.",
                "Check the structure.json it came from.",
            )

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def with_widths(self, heads: Sequence[int], hidden: Sequence[int]) -> Structure:
        """The structure with these heads and hidden units per block; `len(heads)` blocks are kept."""
        kept = self.blocks[: len(heads)]
        blocks = tuple(replace(b, heads=int(h), hidden=int(n)) for b, h, n in zip(kept, heads, hidden, strict=True))
        return replace(self, blocks=blocks)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": STRUCTURE_VERSION,
            "embed_dim": self.embed_dim,
            "blocks": [asdict(b) for b in self.blocks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Structure:
        """Parses `to_json`'s output.

        Raises InputError for another version or for missing, extra or wrong fields.
        """
        try:
            if data["version"] != STRUCTURE_VERSION:
                raise InputError(
                    f"Structure version {data['version']} is not known here (this is version {STRUCTURE_VERSION}).",
                    "Load it with the release of wdp-edge that wrote it.",
                )
            return cls(int(data["embed_dim"]), tuple(BlockWidths(**b) for b in data["blocks"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not a structure: {type(error).__name__}: {error}.",
                "Point to a folder that wdp-edge wrote.",
            ) from error


@dataclass(frozen=True)
class Geometry:
    """What a model's counts depend on besides its Structure.

    tokens: sequence length in the blocks (patches + class token + registers).
    channel_parameters, channel_macs: everything outside the blocks (patch embedding, position, final norm, head) for
    each channel of the residual stream. fixed_parameters: what does not depend on it (the head's bias).
    """

    tokens: int
    channel_parameters: int
    channel_macs: int
    fixed_parameters: int
    qkv_bias: bool
    proj_bias: bool
    layer_scale: bool
    qk_norm: bool


@dataclass(frozen=True)
class Counts:
    """parameters: trainable numbers. macs: multiply-accumulates for one image, each counted once."""

    parameters: int
    macs: int


def attention_counts(block: BlockWidths, embed_dim: int, geometry: Geometry) -> Counts:
    """Norm, qkv, scores, weighted sum and proj of one block (and its LayerScale)."""
    if not block.heads:
        return Counts(0, 0)
    inner = block.heads * block.head_dim
    weights = 4 * embed_dim * inner
    parameters = weights + 2 * embed_dim
    parameters += 3 * inner * geometry.qkv_bias + embed_dim * geometry.proj_bias
    parameters += embed_dim * geometry.layer_scale + 4 * block.head_dim * geometry.qk_norm
    n = geometry.tokens
    return Counts(parameters, n * weights + 2 * n * n * inner)


def mlp_counts(block: BlockWidths, embed_dim: int, geometry: Geometry) -> Counts:
    """Norm, fc1 and fc2 of one block (and its LayerScale)."""
    if not block.hidden:
        return Counts(0, 0)
    weights = 2 * embed_dim * block.hidden
    parameters = weights + 2 * embed_dim
    parameters += (block.hidden + embed_dim) * geometry.proj_bias + embed_dim * geometry.layer_scale
    return Counts(parameters, geometry.tokens * weights)


def count(structure: Structure, geometry: Geometry) -> Counts:
    """Exact parameters and MACs of the shrunk module."""
    parts = [
        part(b, structure.embed_dim, geometry) for b in structure.blocks for part in (attention_counts, mlp_counts)
    ]
    outside = geometry.fixed_parameters + structure.embed_dim * geometry.channel_parameters
    return Counts(
        outside + sum(p.parameters for p in parts),
        structure.embed_dim * geometry.channel_macs + sum(p.macs for p in parts),
    )
