"""open_clip's models, with its own tower (which is OpenAI's) and with one of timm, against what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP
from originals import OURS, Original, difference, drawn, images, save

from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.files import load_dense

TEXT = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
OWN = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "mlp_ratio": 4.0}
TIMM = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("classes", [16, 0])
@torch.no_grad()
def test_an_imported_tower_computes_what_the_original_does(quick: bool, classes: int, tmp_path: Path) -> None:
    name = "vit_base_patch16_clip_quickgelu_224" if quick else "vit_base_patch16_clip_224"
    original = Original(lambda: None, lambda m, x: m(x), name, classes, OURS)
    model = drawn(CLIP(16, OWN, TEXT, quick_gelu=quick))
    path = save(model, tmp_path / "original", "dict")
    got = load_dense(original.spec, path)(images())
    got = got if classes else got @ model.visual.proj  # type: ignore[operator,union-attr]
    assert difference(got, model.encode_image(images())) < 1e-5  # type: ignore[operator]
    assert not [key for key in read_checkpoint(path).unused if key.startswith("visual.")]


@torch.no_grad()
def test_a_tower_of_timm_inside_open_clip(tmp_path: Path) -> None:
    model = drawn(CLIP(16, TIMM, TEXT))
    path = save(model, tmp_path / "original", "dict")
    original = Original(lambda: None, lambda m, x: m(x), "vit_tiny_patch16_224", args={})
    x = torch.randn(2, 3, 224, 224)
    got = load_dense(original.spec, path)(x) @ model.visual.head.proj.weight.T  # type: ignore[union-attr,operator]
    assert difference(got, model.encode_image(x)) < 1e-5  # type: ignore[operator]
