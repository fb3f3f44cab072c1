"""torchvision's own models against what is made of their state dicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from originals import OUR_SWIN, OURS, Original, difference, drawn, images, save
from torchvision.models import swin_transformer as swin
from torchvision.models.vision_transformer import VisionTransformer

from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.files import load_dense


def windows(**parts: Any) -> swin.SwinTransformer:
    return swin.SwinTransformer([2, 2], 24, [2, 2], [2, 2], [4, 4], num_classes=5, **parts)


V2 = {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2}
ORIGINALS = {
    "vit": Original(
        lambda: VisionTransformer(32, 8, 2, 4, 32, 128, num_classes=5),
        lambda m, x: m(x),
        "vit_base_patch16_224",
        5,
        OURS,
    ),
    "swin": Original(windows, lambda m, x: m(x), "swin_tiny_patch4_window7_224", 5, OUR_SWIN),
    "swinv2": Original(lambda: windows(**V2), lambda m, x: m(x), "swinv2_tiny_window8_256", 5, OUR_SWIN),
}


@pytest.mark.parametrize("case", ORIGINALS)
@torch.no_grad()
def test_an_imported_model_computes_what_the_original_does(case: str, tmp_path: Path) -> None:
    original = ORIGINALS[case]
    model = drawn(original.make())
    path = save(model, tmp_path / "original", "dict")
    assert difference(load_dense(original.spec, path)(images()), original.output(model, images())) < 1e-5
    found = read_checkpoint(path)
    assert "torchvision" in found.source
    assert not [key for key in found.unused if not key.endswith(("_index", "_coords_table"))]
