"""The beginning of a model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from wdp_edge.models.vit import embed, sublayers


class Prefix(nn.Module):
    """The beginning of a ViT, to find where an artifact goes wrong: the embedding and some sub-layers.

    sublayers: attention and MLP of the first block are 1 and 2, those of the next 3 and 4, and so on.
    """

    def __init__(self, vit: Any, sublayers: int) -> None:
        super().__init__()
        self.vit, self.sublayers = vit, sublayers

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> the stream: [B, ..., D]."""
        x = embed(self.vit, images)
        for sublayer in sublayers(self.vit)[: self.sublayers]:
            x = x if sublayer is None else sublayer(x)
        return x
