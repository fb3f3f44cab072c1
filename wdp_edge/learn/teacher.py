"""The dense model as teacher: its outputs, and those of its blocks.

The shrunk model keeps the dense one's residual width, so streams compare directly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wdp_edge.learn.compute import Compute
from wdp_edge.models import vit
from wdp_edge.models.vit import blocks_of
from wdp_edge.workers.parallel import mean


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


def feature_depths(depth: int, count: int) -> list[int]:
    """`count` places spread evenly over the kept blocks, the last one always among them."""
    count = min(count, depth)
    return sorted({round(depth * (i + 1) / count) for i in range(count)})


class BlockOutputs:
    """Records outputs of some blocks. A context manager; `values[d]`: [B, N, D] after d blocks."""

    def __init__(self, model: Any, depths: Sequence[int]) -> None:
        self.model, self.depths = model, depths
        self.values: dict[int, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> BlockOutputs:
        blocks = blocks_of(self.model)
        for depth in self.depths:
            block = blocks[depth - 1]
            self._handles.append(block.register_forward_hook(self._record(depth)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _record(self, depth: int) -> Any:
        def hook(_: Any, __: Any, output: Tensor) -> None:
            self.values[depth] = output

        return hook


def output_tokens(outputs: Tensor) -> Tensor:
    """A model's outputs as `feature_loss` takes them: [B, K] -> [B, 1, K]; maps [B, K, h, w] -> [B, h · w, K]."""
    return outputs[:, None] if outputs.ndim == 2 else outputs.flatten(2).transpose(1, 2)


def feature_loss(got: Tensor, wanted: Tensor, tokens: int | None) -> Tensor:
    """Squared error of a residual stream relative to its variance over tokens, of all processes' images: [].

    got, wanted: [B, ..., D]. tokens: compare only this many of the first ones, where nothing else reaches the head.
    """
    got, wanted = (x.float().flatten(1, -2) for x in (got, wanted))
    if tokens is not None:
        got, wanted = got[:, :tokens], wanted[:, :tokens]
    variance = mean((wanted - mean(wanted.mean((0, 1)))).square().mean((0, 1)))
    return ((got - wanted).square() / (variance + 1e-6 * variance.mean())).mean()
