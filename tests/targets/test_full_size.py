"""Models of full size with random weights: cut to about half, and every target's default file against the model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from int8_error import as_its_scheme
from PIL import Image
from sklearn.datasets import load_sample_images
from tiny_vit import lively, ones_at
from torch import Tensor

from wdp_edge.data.preprocess import normalise, preprocessing_of
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.target import ExportOptions, get_target

NAMES = ("swin_tiny_patch4_window7_224", "vit_small_patch16_dinov3", "deit_small_distilled_patch16_224")
pytestmark = pytest.mark.slow


@cache
def dense(name: str) -> Any:
    return lively(create(ModelSpec(name, 10))).requires_grad_(False)


@cache
def half(name: str) -> Kept:
    """Every other head and hidden unit, and no last block where the family lets a model end earlier."""
    blocks = vit.structure_of(dense(name)).blocks
    blocks = blocks if "swin" in name else blocks[:-1]
    heads = tuple(tuple(range(0, b.heads, 2)) for b in blocks)
    return Kept(heads, tuple(tuple(range(0, b.hidden, 2)) for b in blocks))


@cache
def photographs(name: str) -> Tensor:
    """Eight crops of two photographs as the model takes them: [8, 3, H, W] float32."""
    settings = preprocessing_of(dense(name))
    crops = []
    for pixels in load_sample_images().images:
        picture = Image.fromarray(pixels)
        for left in range(0, 400, 100):
            crop = picture.crop((left, left // 4, left + 240, left // 4 + 240)).resize(settings.size[::-1])
            crops.append(torch.from_numpy(np.array(crop)))
    return normalise(torch.stack(crops).permute(0, 3, 1, 2), settings)


@pytest.mark.parametrize("name", NAMES)
def test_masked_equals_shrunk(name: str) -> None:
    model, kept, images = dense(name), half(name), photographs(name)
    blocks = vit.structure_of(model).blocks[: len(kept.heads)]
    whole = cut(
        model, Kept(tuple(tuple(range(b.heads)) for b in blocks), tuple(tuple(range(b.hidden)) for b in blocks))
    )
    with MaskedForward(whole) as masked, torch.no_grad():
        masked.heads = ones_at(kept.heads, [b.heads for b in blocks])
        masked.hidden = ones_at(kept.hidden, [b.hidden for b in blocks])
        expected = whole(images)
    assert (expected - cut(model, kept)(images)).abs().max() < 1e-4


@pytest.mark.parametrize("target_name", ["executorch", "tflite", "onnx", "coreml"])
@pytest.mark.parametrize("name", NAMES)
def test_default_files_compute_what_the_model_does(name: str, target_name: str, tmp_path: Path) -> None:
    target, images = get_target(target_name), photographs(name)
    model = cut(dense(name), half(name)).eval()
    precision = target.default_precision
    path = tmp_path / f"model{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(precision, images))
    program = target.load(path, threads=2)
    got = torch.cat([torch.as_tensor(program(image)) for image in images.split(1)])
    assert as_its_scheme(target, precision, model, images, images, got)
