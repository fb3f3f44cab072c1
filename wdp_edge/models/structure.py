"""What is left of a Vision Transformer: its widths per block and its depth, and the counts that follow from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from wdp_edge.errors import InputError

_WIDEST = 1 << 24  # no model has more channels or units


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

    version: Literal[1] = field(default=1, kw_only=True, repr=False)
    embed_dim: int
    blocks: tuple[BlockWidths, ...]

    def __post_init__(self) -> None:
        widths = [self.embed_dim, *(n for b in self.blocks for n in (b.heads, b.head_dim, b.hidden))]
        sound = all(type(n) is int and 0 <= n <= _WIDEST for n in widths)
        headless = sound and any(b.heads > 0 and b.head_dim < 1 for b in self.blocks)
        if not self.blocks or not sound or headless or not self.embed_dim:
            raise InputError(
                f"A structure needs at least one block, and channels in its stream and heads, not {self}.",
                "Check the structure.json it came from.",
            )

    @property
    def depth(self) -> int:
        return len(self.blocks)

    @property
    def last_attention(self) -> int:
        """The last block, from 0, that has an attention; the depth where none has one."""
        return max((i for i, b in enumerate(self.blocks) if b.heads), default=self.depth)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def with_widths(
        self, heads: Sequence[int], hidden: Sequence[int], channels: Sequence[int] | None = None
    ) -> Structure:
        """The structure with these heads and hidden units per block; `len(heads)` blocks are kept.

        channels: of each block's heads; as here when None.
        """
        kept = self.blocks[: len(heads)]
        dims = [b.head_dim for b in kept] if channels is None else channels
        blocks = tuple(
            replace(b, heads=int(h), hidden=int(n), head_dim=int(d))
            for b, h, n, d in zip(kept, heads, hidden, dims, strict=True)
        )
        return replace(self, blocks=blocks)

    def excess(self, whole: Structure) -> str:
        """What of the structure is not in `whole`, of which it should be a part; "" where all is."""
        if self.depth > whole.depth:
            return f"{self.depth} blocks of {whole.depth}"
        if self.embed_dim != whole.embed_dim:
            return f"{self.embed_dim} channels in the residual stream, not {whole.embed_dim}"
        for number, (own, all_) in enumerate(zip(self.blocks, whole.blocks, strict=False)):
            for what, part, full in (
                ("heads", own.heads, all_.heads),
                ("channels in a head", own.head_dim, all_.head_dim),
                ("hidden units", own.hidden, all_.hidden),
            ):
                if part > full:
                    return f"{part} {what} of {full} in block {number + 1}"
        return ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class AttentionGeometry:
    """What one block's attention counts besides its q, k, v and proj matrices.

    tokens: that pass through it; keys: how many of them each one attends to; channels: of its stream, in
    multiples of the structure's embed_dim. Parameters for each channel of the stream (norm, LayerScale, bias of proj),
    each channel of all heads (biases of q, k, v), each head (positions), each channel of one head (norms of q and k)
    and besides; macs for each head and besides (positions that are computed).
    """

    tokens: int = 0
    keys: int = 0
    channels: int = 1
    per_channel: int = 0
    per_inner: int = 0
    per_head: int = 0
    per_head_channel: int = 0
    fixed: int = 0
    head_macs: int = 0
    fixed_macs: int = 0


@dataclass(frozen=True)
class MlpGeometry:
    """What one block's MLP counts besides its matrices; terms as in `AttentionGeometry`.

    matrices: fc2 and those before the activation. per_unit: parameters for each hidden unit (biases, a norm).
    """

    tokens: int = 0
    channels: int = 1
    matrices: int = 2
    per_channel: int = 0
    per_unit: int = 0


@dataclass(frozen=True)
class Geometry:
    """What a model's counts depend on besides its Structure.

    attention, mlp: of every block. parameters, macs: of everything outside the blocks (patch embedding, position, final
    norm, head).
    """

    attention: tuple[AttentionGeometry, ...]
    mlp: tuple[MlpGeometry, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Counts:
    """parameters: trainable numbers. macs: multiply-accumulates for one image, each counted once."""

    parameters: int
    macs: int


def attention_counts(block: BlockWidths, embed_dim: int, geometry: Geometry, number: int = 0) -> Counts:
    """Norm, qkv, scores, weighted sum and proj of one block (and its LayerScale). number: the block's place."""
    if not block.heads:
        return Counts(0, 0)
    own, inner = geometry.attention[number], block.heads * block.head_dim
    channels = own.channels * embed_dim
    weights = 4 * channels * inner
    parameters = weights + own.per_channel * channels + own.per_inner * inner
    parameters += own.per_head * block.heads + own.per_head_channel * block.head_dim + own.fixed
    macs = own.tokens * weights + 2 * own.tokens * own.keys * inner + own.head_macs * block.heads + own.fixed_macs
    return Counts(parameters, macs)


def mlp_counts(block: BlockWidths, embed_dim: int, geometry: Geometry, number: int = 0) -> Counts:
    """Norm, fc1 and fc2 of one block (and its LayerScale). number: the block's place."""
    if not block.hidden:
        return Counts(0, 0)
    own = geometry.mlp[number]
    channels = own.channels * embed_dim
    weights = own.matrices * channels * block.hidden
    return Counts(weights + own.per_channel * channels + own.per_unit * block.hidden, own.tokens * weights)


def block_counts(structure: Structure, geometry: Geometry) -> Counts:
    """Counts of all blocks together."""
    parts = [
        part(block, structure.embed_dim, geometry, number)
        for number, block in enumerate(structure.blocks)
        for part in (attention_counts, mlp_counts)
    ]
    return Counts(sum(p.parameters for p in parts), sum(p.macs for p in parts))


def channels_kept(keep: float, head_dim: int, narrow: Sequence[int]) -> int:
    """The narrowest of `narrow` and the full width that keeps this share."""
    return min((w for w in narrow if keep * head_dim - 1e-9 <= w < head_dim), default=head_dim)


def count(structure: Structure, geometry: Geometry) -> Counts:
    """Exact parameters and MACs of the shrunk module."""
    blocks = block_counts(structure, geometry)
    return Counts(geometry.parameters + blocks.parameters, geometry.macs + blocks.macs)
