"""A small cut model for TFLite, images for it, and what a file gives for them."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_vit import TINY, lively
from torch import Tensor, nn

from wdp_edge.models.spec import create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.precision import Precision
from wdp_edge.targets.tflite.target import TFLiteTarget

INT8 = (Precision.INT8_DYNAMIC, Precision.INT8_STATIC, Precision.INT8_WEIGHT)
METADATA = {"classes": "Katze, 犬", "input": '{"mean": [0.5]}'}


# Other heads and widths in every block, and one block less.
KEPT = Kept(heads=((0, 2, 3), (1,)), hidden=(tuple(range(0, 128, 2)), tuple(range(40))))


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return cut(lively(create(TINY)), KEPT).eval().requires_grad_(False)


def some_images(count: int) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def run(path: Path, images: Tensor) -> Tensor:
    program = TFLiteTarget().load(path, threads=1)
    assert program.input_shape == (1, *images.shape[1:])
    return torch.cat([program(x) for x in images.split(1)])


def error(logits: Tensor, reference: Tensor) -> float:
    """Size of the error relative to what differs between the images: 1 for logits that say nothing."""
    return float((logits - reference).norm() / (reference - reference.mean(0)).norm())
