"""Models of every family, cut, as files of every target: the model's own logits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_families import made

from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.parity import compare
from wdp_edge.target import ExportOptions, Precision, get_target

TOLERANCE = {Precision.FP32: 0.9999, Precision.INT8_DYNAMIC: 0.97}


def cut_in_two(form: str) -> torch.nn.Module:
    """The first two blocks, with other widths in each."""
    model = made(form)
    blocks = vit.structure_of(model).blocks
    heads = ((0, 2, 3), (1, 2))
    hidden = (tuple(range(0, blocks[0].hidden, 2)), tuple(range(40)))
    return cut(model, Kept(heads, hidden)).eval().requires_grad_(False)


@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx", "coreml"])
@pytest.mark.parametrize("form", ["distilled", "packed swiglu", "dinov3", "eva02"])
def test_files_compute_what_the_model_does(form: str, name: str, tmp_path: Path) -> None:
    target, model = get_target(name), cut_in_two(form)
    precisions = [p for p in (Precision.FP32, Precision.INT8_DYNAMIC) if p in target.precisions]
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
    for precision in precisions:
        path = tmp_path / f"{precision.value}{target.suffix}"
        target.export(model, images[:1], path, ExportOptions(precision, images))
        program = target.load(path, threads=1)
        got = torch.cat([torch.as_tensor(program(image)) for image in images.split(1)])
        parity = compare(precision.value, expected, got.reshape(expected.shape))
        assert parity.cosine_centred > TOLERANCE[precision]
