"""The dense model as teacher."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from wdp_edge.learn.compute import Compute
from wdp_edge.models import vit


class Teacher:
    """A frozen copy of the dense model where learning runs, in bfloat16 where that is faster."""

    def __init__(self, dense: nn.Module, compute: Compute) -> None:
        self.dtype = torch.bfloat16 if compute.bf16 else torch.float32
        self.model = copy.deepcopy(dense).to(compute.device, self.dtype).eval().requires_grad_(False)
        vit.set_fused_attention(self.model, True)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] float32 -> the model's outputs: [B, K] float32."""
        return self.model(images.to(self.dtype)).float()
