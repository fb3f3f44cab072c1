"""Whole models that round as int8 files would, layer by layer with the sources' own stand-ins."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wdp_edge.calibration.fake_quant import Scheme, stand_ins
from wdp_edge.lowering.vit import matches

_BATCH = 64


def fake_quantized(
    lowered: nn.Module, scheme: Scheme, calibration: Tensor | None = None, keep_float: Sequence[str] = ()
) -> nn.Module:
    """A copy of a lowered model that rounds as its int8 file would.

    keep_float: as in `ExportOptions`. Raises InputError when calibration images are needed and missing.
    """
    copied = copy.deepcopy(lowered)
    for name, layer in stand_ins(lowered, scheme, calibration).items():
        if not matches(name, keep_float):
            copied.set_submodule(name, layer)
    return copied


@torch.no_grad()
def predict(lowered: nn.Module, images: Tensor) -> Tensor:
    """Logits of a model that takes one image at a time. images: [n, 3, H, W] -> [n, classes]."""
    run = torch.func.vmap(lowered)
    return torch.cat([run(part[:, None]).flatten(0, 1) for part in images.split(_BATCH)])
