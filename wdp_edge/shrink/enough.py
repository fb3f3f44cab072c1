"""How many images a statistic needs: it learns from tokens, of which an image has a handful or hundreds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from wdp_edge.models import vit


@dataclass(frozen=True)
class Need:
    """Of how many images something is found out.

    most: where images have few tokens. samples: tokens for each input of the model's widest layer that are enough: the
    error of a regression falls with them. fewest: images, however many tokens each has, because those of one image
    resemble each other and it has one class token.
    """

    most: int
    samples: float
    fewest: int

    def images(self, model: Any) -> int:
        """Where a model's stages have fewer and fewer tokens, those of the last one count."""
        blocks, geometry = vit.structure_of(model).blocks, vit.geometry_of(model)
        widest = max(max(b.heads * b.head_dim, b.hidden) for b in blocks)
        tokens = min(
            (t for t in (*(a.tokens for a in geometry.attention), *(m.tokens for m in geometry.mlp)) if t), default=1
        )
        return min(self.most, max(self.fewest, math.ceil(self.samples * widest / tokens)))
