"""The tiny real ViT of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from wdp_edge.models.spec import ModelSpec

TINY = ModelSpec(
    "vit_tiny_patch16_224", 4, {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
)


def lively(model: Any) -> Any:
    """Random weights spread so that logits differ between images and no bias is zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.5 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def ones_at(kept: Sequence[tuple[int, ...]], widths: Sequence[int]) -> list[torch.Tensor]:
    """Masks for `MaskedForward`: one per block, 1 for what is kept."""
    pairs = zip(kept, widths, strict=False)
    return [torch.isin(torch.arange(width), torch.tensor(k)).float() for k, width in pairs]
