"""Models of every family, cut to other widths in each block."""

from __future__ import annotations

import torch
from tiny_families import made

from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut


def cut_model(form: str) -> torch.nn.Module:
    """With other widths in each of at least three blocks, and in all stages."""
    model = made(form)
    blocks = vit.structure_of(model).blocks
    heads = tuple(tuple(range(number % 2, b.heads)) for number, b in enumerate(blocks, start=1))
    hidden = tuple(tuple(range(0, b.hidden, 2)) if number else tuple(range(40)) for number, b in enumerate(blocks))
    return cut(model, Kept(heads, hidden)).eval().requires_grad_(False)
