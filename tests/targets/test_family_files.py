"""Models of every family, cut, as files of every target: the model's own logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_families import cut_model
from tiny_families import FORMS

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import close, simulated_error, tolerance_of, within
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.config.recipe import VerifyRecipe
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target

QUICK = ("dinov3", "swin")


def slow(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx", slow("coreml")])
@pytest.mark.parametrize("form", [form if form in QUICK else slow(form) for form in FORMS])
def test_files_compute_what_the_model_does(form: str, name: str, tmp_path: Path) -> None:
    target, model = get_target(name), cut_model(form)
    precisions = [p for p in (Precision.FP32, Precision.INT8_DYNAMIC) if p in target.precisions]
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(images)
    for precision in precisions:
        path = tmp_path / f"{precision}{target.suffix}"
        target.export(model, images[:1], path, ExportOptions(precision, images))
        program = target.load(path, threads=1)
        got = torch.cat([torch.as_tensor(program(image)) for image in images.split(1)])
        parity = compare(precision, expected, got.reshape(expected.shape))
        tolerance = tolerance_of(VerifyRecipe(), precision)
        if precision == Precision.FP32:
            assert within(parity, tolerance)
            continue
        scheme = scheme_of(target, precision)
        assert scheme is not None
        simulated = simulated_error(model, scheme, images, images)
        assert close(replace(parity, simulated_error=simulated), tolerance)


@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx", slow("coreml")])
def test_the_memory_layout_of_the_example_is_not_the_file_s(name: str, tmp_path: Path) -> None:
    target, model = get_target(name), cut_model("dinov2")
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    path = tmp_path / f"model{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(Precision.FP32))
    program = target.load(path, threads=1)
    got = torch.cat([torch.as_tensor(program(image)) for image in images.split(1)])
    assert torch.allclose(got, model(images), atol=1e-4)
