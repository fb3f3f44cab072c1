"""Models cut in every dimension, as files: no trace of what is gone, and the model's own logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_vit import lively

from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target

# Average pooling: a class token of so few attentions would see next to nothing of an image.
SPEC = ModelSpec(
    "vit_base_patch16_gap_224",
    4,
    {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4, "init_values": 0.5},
)
HALF = tuple(range(0, 128, 2))
ALL = (0, 1, 2, 3)
FORMS = {
    "without sub-layers": Kept((ALL, (), ()), ((), HALF, ())),
    "narrow heads": Kept((ALL, (1, 2)), (HALF,) * 2, ((0, 1, 4, 5, 7), (2, 3))),
}


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8_DYNAMIC])
@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx"])
@pytest.mark.parametrize("form", FORMS)
def test_files_compute_what_the_model_does(form: str, name: str, precision: Precision, tmp_path: Path) -> None:
    target = get_target(name)
    torch.manual_seed(0)
    model = cut(lively(create(SPEC)), FORMS[form]).eval().requires_grad_(False)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    path = tmp_path / f"x{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(precision, images))
    program = target.load(path, threads=1)
    got, reference = torch.cat([program(x) for x in images.split(1)]), model(images)
    if precision == Precision.FP32:
        assert float((got - reference).abs().max()) < 1e-4
        return
    mean = reference.mean(0)
    assert float(torch.cosine_similarity(got - mean, reference - mean).min()) > 0.99
