"""Models of every family, cut, as files of every target: the model's own logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import SWIN, made

from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.parity import compare
from wdp_edge.target import ExportOptions, Precision, get_target

TOLERANCE = {Precision.FP32: 0.9999, Precision.INT8_DYNAMIC: 0.97}


def cut_model(form: str) -> torch.nn.Module:
    """With other widths in each block; the last block is gone, but for Swin, where it is the one that shifts."""
    model = made(form)
    blocks = vit.structure_of(model).blocks[: 3 if form in SWIN else 2]
    heads = tuple(tuple(range(number % 2, b.heads)) for number, b in enumerate(blocks, start=1))
    hidden = tuple(tuple(range(0, b.hidden, 2)) if number else tuple(range(40)) for number, b in enumerate(blocks))
    return cut(model, Kept(heads, hidden)).eval().requires_grad_(False)


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx", slow("coreml")])
@pytest.mark.parametrize("form", ["dinov3", "swin", *map(slow, ("distilled", "packed swiglu", "eva02", "swin v2"))])
def test_files_compute_what_the_model_does(form: str, name: str, tmp_path: Path) -> None:
    target, model = get_target(name), cut_model(form)
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


@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx", slow("coreml")])
def test_the_memory_layout_of_the_example_is_not_the_file_s(name: str, tmp_path: Path) -> None:
    target, model = get_target(name), cut_model("dinov2")
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    path = tmp_path / f"model{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(Precision.FP32))
    program = target.load(path, threads=1)
    got = torch.cat([torch.as_tensor(program(image)) for image in images.split(1)])
    assert torch.allclose(got, model(images), atol=1e-4)
