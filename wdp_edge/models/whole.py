"""Whether weights by timm's names are those of one whole model for images, in plain numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.strangers import QUANTIZED, UNQUANTIZED, WHOLE

_BLOCK = re.compile(r"((?:layers\.\d+\.)?blocks)\.(\d+)\.(.*)")
_SMALL_FLOATS = tuple(dtype for name in dir(torch) if name.startswith("float8") for dtype in [getattr(torch, name)])


def check_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises InputError for quantized weights, for images that are not of three channels, and for missing blocks."""
    if (bad := next((name for name, value in weights.items() if _is_quantized(name, value)), None)) is not None:
        raise InputError(f"Checkpoint {path} holds {QUANTIZED} ({bad}: {_kind(weights[bad])}).", UNQUANTIZED)
    _check_patches(path, weights["patch_embed.proj.weight"])
    _check_blocks(path, weights)


def _is_quantized(name: str, value: Tensor) -> bool:
    if type(value) not in (Tensor, nn.Parameter) or value.dtype in _SMALL_FLOATS:
        return True
    return name.endswith(".weight") and value.ndim > 1 and not value.dtype.is_floating_point


def _kind(value: Tensor) -> str:
    if type(value) not in (Tensor, nn.Parameter):
        return type(value).__name__
    return str(value.dtype).removeprefix("torch.")


def _check_patches(path: Path, patches: Tensor) -> None:
    """patches: [D, 3, P, P]."""
    shape = tuple(patches.shape)
    wrong = {5: "looks like a video model: its patches reach through several frames"}.get(len(shape), "")
    if len(shape) == 2:
        wrong = "reads images as lists of patches, as SigLIP 2 NaFlex does"
    elif len(shape) == 4 and shape[1] != 3:
        wrong = f"reads images of {shape[1]} channel{'s' if shape[1] > 1 else ''}, not of red, green and blue"
    elif len(shape) not in (2, 4, 5):
        wrong = f"has no patch embedding: patch_embed.proj.weight is {shape}"
    if wrong:
        raise InputError(f"Checkpoint {path} {wrong}.", "Give a model of single RGB images.")


def _check_blocks(path: Path, weights: Mapping[str, Tensor]) -> None:
    """All blocks of a model have the same parts."""
    stages: dict[str, dict[int, set[str]]] = {}
    for name in weights:
        if match := _BLOCK.fullmatch(name):
            stages.setdefault(match[1], {}).setdefault(int(match[2]), set()).add(match[3])
    missing = []
    for stage, blocks in stages.items():
        parts = set.union(*blocks.values())
        for number in range(max(blocks) + 1):
            missing += [f"{stage}.{number}.{part}" for part in sorted(parts - blocks.get(number, set()))]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"Checkpoint {path} holds only a part of a model: it lacks {missing[0]}{more}, which other blocks have.",
            WHOLE,
        )
