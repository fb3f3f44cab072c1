"""Cut models, and how far they are from the whole ones on pictures."""

from __future__ import annotations

from typing import Any

import torch

from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept
from wdp_edge.shrink.saliency import Saliency, fisher, saliency


def prepare(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 127.5 - 1


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures: [n, 3, 16, 16] uint8."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size=16, mode="bilinear") * 255).byte()


def halved(model: Any, depth: int | None = None) -> Kept:
    blocks = vit.structure_of(model).blocks[:depth]
    return Kept(tuple(tuple(range(0, b.heads, 2)) for b in blocks), tuple(tuple(range(0, b.hidden, 2)) for b in blocks))


def error(model: Any, small: Any, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(prepare(images)) - small(prepare(images))).square().mean())


def saliency_of(model: Any, images: torch.Tensor) -> Saliency:
    return saliency(model, images, prepare, fisher(model, images, prepare, 0))
