"""A model whose residual stream leaves the range of 16-bit floats, squared or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def with_large_stream(model: Any, factor: float) -> Any:
    """The same function of a stream that is so much larger."""
    with torch.no_grad():
        for values in (*model.patch_embed.proj.parameters(), model.cls_token, model.pos_embed):
            values.mul_(factor)
        for block in model.blocks:
            for values in (*block.attn.proj.parameters(), *block.mlp.fc2.parameters()):
                values.mul_(factor)
    for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
        norm.eps *= factor**2
    return model
