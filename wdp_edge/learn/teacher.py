"""The dense model as teacher."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.models import vit


def bf16_pays(model: Any) -> bool:
    """Whether bfloat16 matrix products are faster on this CPU: native support, and matrices that are not tiny.

    Measured on AVX-512 with AMX: 1.3 to 2 times for 384 channels, a loss for the smallest models.
    """
    native = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    return bool(native) and model.embed_dim >= 192


def autocast(enabled: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


class Teacher:
    """A frozen copy of the dense model, in bfloat16 where that is faster."""

    def __init__(self, dense: nn.Module, bf16: bool) -> None:
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.model = copy.deepcopy(dense).to(self.dtype).eval().requires_grad_(False)
        vit.set_fused_attention(self.model, True)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] float32 -> the model's outputs: [B, K] float32."""
        return self.model(images.to(self.dtype)).float()
