"""Whose keys a checkpoint has: timm's own, or those of another library, which are turned into timm's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from wdp_edge.models.layouts.clip import OPENAI
from wdp_edge.models.layouts.huggingface import CLIP, DINOV3, SIGLIP, SWIN, VIT
from wdp_edge.models.layouts.layout import Layout
from wdp_edge.models.layouts.meta import DINOV3_RELEASE, TIMM
from wdp_edge.models.layouts.torchvision import TORCHVISION_SWIN, TORCHVISION_VIT

# The first whose mark is there is taken: marks tell all of them apart but DINOv3's release from timm's keys.
LAYOUTS: tuple[Layout, ...] = (
    DINOV3_RELEASE,
    TIMM,
    VIT,
    SWIN,
    DINOV3,
    SIGLIP,
    CLIP,
    OPENAI,
    TORCHVISION_VIT,
    TORCHVISION_SWIN,
)


@dataclass(frozen=True)
class Tower:
    """A Vision Transformer among the keys of a checkpoint. prefix: their beginning, such as "vision_model."."""

    layout: Layout
    prefix: str


def towers(keys: Iterable[str]) -> list[Tower]:
    """Every tower among these keys: averaged ones first, then those with the shortest prefix."""
    names = set(keys)
    found: dict[str, Tower] = {}
    for layout in LAYOUTS:
        for prefix in layout.prefixes(names):
            found.setdefault(prefix, Tower(layout, prefix))
    return sorted(found.values(), key=lambda tower: (not is_averaged(tower.prefix), len(tower.prefix), tower.prefix))


def is_averaged(name: str) -> bool:
    """Whether an entry or a prefix of this name holds averaged weights: EMA copies, and the teacher of DINO."""
    return re.search(r"(?<![a-z])ema(?![a-z])|averag|teacher", name.lower()) is not None


@dataclass(frozen=True)
class Converted:
    """Weights by timm's names. unused: keys of the checkpoint that the tower has no use for."""

    tensors: dict[str, Tensor]
    layout: str
    prefix: str
    unused: tuple[str, ...]


def convert(weights: Mapping[str, Tensor], tower: Tower) -> Converted:
    """One tower of a checkpoint, with the head that stands inside of it or beside it."""
    layout, prefix = tower.layout, tower.prefix
    inside = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    beside = layout.beside(weights, prefix)
    tensors = layout.convert(inside, {name: weights[key] for key, name in beside.items()})
    dropped = [prefix + key for key in inside if layout.drops(key)]
    outside = [key for key in weights if not key.startswith(prefix) and key not in beside]
    return Converted(tensors, layout.name, prefix, tuple(dropped + outside))
