"""What the keys and shapes of weights say of their model: the same questions for a checkpoint and for a timm model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """Of a model without its head. Swin has one number per stage where the others have one.

    grid: patches along one side by its position embeddings; 0 where it has none. hidden: units of the first MLP, gates
    and values counted alike. pieces: parts that a model has or has not, such as "fc_norm", "norm_pre" and "registers".
    window: of Swin; 0 for others.
    """

    embed_dim: int
    depths: tuple[int, ...]
    patch: int
    grid: int
    hidden: int
    heads: tuple[int, ...]
    registers: int
    window: int
    pieces: frozenset[str]

    def differences(self, other: Shape) -> list[str]:
        """Names of the fields in which the two are not alike."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]


def shape_of(weights: Mapping[str, Tensor]) -> Shape:
    """weights: by timm's names. Raises KeyError for weights without a patch embedding or without blocks."""
    patch = weights["patch_embed.proj.weight"]
    stages = _stages(weights)
    mlp, back = (
        _first(weights, rf"^(?:layers\.0\.)?blocks\.0\.mlp\.{part}\.weight$") for part in ("fc1(?:_g)?", "fc2")
    )
    registers = weights.get("reg_token")
    pieces = {name for name, pattern in _PIECES.items() if any(re.search(pattern, key) for key in weights)}
    pieces |= {"packed SwiGLU"} if len(mlp) == 2 * back.shape[1] else set()
    pieces |= {"position of the class token"} if _extra_positions(weights) else set()
    table = weights.get("layers.0.blocks.0.attn.relative_position_bias_table")
    return Shape(
        embed_dim=len(patch),
        depths=stages,
        patch=patch.shape[-1],
        grid=_grid(weights),
        hidden=len(mlp),
        heads=_heads(weights, len(stages)),
        registers=0 if registers is None else registers.shape[1],
        window=0 if table is None else (math.isqrt(len(table)) + 1) // 2,
        pieces=frozenset(pieces),
    )


def _first(weights: Mapping[str, Tensor], pattern: str) -> Tensor:
    for key, value in weights.items():
        if re.search(pattern, key):
            return value
    raise KeyError(pattern)


_PIECES = {
    "class token": r"^cls_token$",
    "distillation token": r"^dist_token$",
    "norm before the blocks": r"^norm_pre\.",
    "norm after the pooling": r"^fc_norm\.",
    "layer scale": r"^blocks\.0\.ls1\.gamma$",
    "layer scale of Eva": r"^blocks\.0\.gamma_1$",
    "SwiGLU": r"^blocks\.0\.mlp\.fc1_g\.",
    "biases of queries and values": r"(?:^|\.)blocks\.0\.attn\.q_bias$",
    "norm of queries and keys": r"(?:^|\.)blocks\.0\.attn\.[qk]_norm\.",
    "logit scale": r"\.attn\.logit_scale$",
    "stages": r"^layers\.0\.",
    "position embeddings": r"^pos_embed$",
    "bias of the patches": r"^patch_embed\.proj\.bias$",
}


def _stages(weights: Mapping[str, Tensor]) -> tuple[int, ...]:
    found: dict[int, set[int]] = {}
    for key in weights:
        if match := re.match(r"(?:layers\.(\d+)\.)?blocks\.(\d+)\.", key):
            found.setdefault(int(match[1] or 0), set()).add(int(match[2]))
    return tuple(len(found[stage]) for stage in sorted(found))


def _heads(weights: Mapping[str, Tensor], stages: int) -> tuple[int, ...]:
    """Of every stage of a Swin; () where weights do not tell."""
    found = []
    for stage in range(stages):
        table = weights.get(f"layers.{stage}.blocks.0.attn.relative_position_bias_table")
        scale = weights.get(f"layers.{stage}.blocks.0.attn.logit_scale")
        if table is not None or scale is not None:
            found.append(table.shape[1] if table is not None else len(scale))  # type: ignore[arg-type]
    return tuple(found)


def _grid(weights: Mapping[str, Tensor]) -> int:
    positions = weights.get("pos_embed")
    if positions is None:
        return 0
    return positions.shape[1] if positions.ndim == 4 else math.isqrt(positions.shape[1] - _extra_positions(weights))


def _extra_positions(weights: Mapping[str, Tensor]) -> int:
    """Those of the class token and the distillation token, where they have some: whatever leaves a square."""
    positions = weights.get("pos_embed")
    if positions is None or positions.ndim == 4:
        return 0
    counts = [n for n in (0, 1, 2) if math.isqrt(positions.shape[1] - n) ** 2 == positions.shape[1] - n]
    return counts[0] if counts else 0
