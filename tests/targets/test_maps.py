"""Models that put out a class of every patch, lowered and as files of every target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from int8_error import as_its_scheme
from lowered_models import error
from rounded_models import fake_quantized, predict
from tiny_families import FORMS
from tiny_vit import lively

from wdp_edge.artifacts.parity import compare
from wdp_edge.calibration.fake_quant import DYNAMIC
from wdp_edge.calibration.sensitivity import sensitivity
from wdp_edge.lowering.parts import Norms
from wdp_edge.lowering.vit import lower, output_name
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.protocols.task import Output, get_task

CLASSES = 5
HALF = tuple(range(0, 128, 2))


LINEAR, CONVOLUTIONAL, OF_SEVERAL, OF_ALL = HEADS = ((0, ()), (8, ()), (0, (1, 3)), (8, (1, 2, 3)))
Head = tuple[int, tuple[int, ...]]


def model_of(form: str, head: Head = LINEAR) -> torch.nn.Module:
    name, args = FORMS[form]
    torch.manual_seed(0)
    return lively(create(ModelSpec(name, CLASSES, args, Output.MAP, *head)))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("norms", ["folded", "native"])
@pytest.mark.parametrize("form", ["plain", "registers", "no class token", "dinov3", "eva02"])
def test_lowering_is_exact(form: str, norms: Norms, head: Head) -> None:
    model = model_of(form, head)
    assert error(model, norms) < 1e-9
    assert output_name(lower(model, norms)) == "logits"


@pytest.mark.parametrize(("head", "last"), [(LINEAR, "head"), (OF_SEVERAL, "taps.heads.0"), (OF_ALL, "blocks.2.fc2")])
def test_layers_of_a_map_are_ranked_and_rounded_one_image_at_a_time(head: Head, last: str) -> None:
    lowered, images = lower(model_of("registers", head)), torch.randn(6, 3, 16, 16)
    with torch.no_grad():
        expected = torch.cat([lowered(image) for image in images.split(1)])
    assert torch.allclose(predict(lowered, images), expected, atol=1e-5)
    rounded = predict(fake_quantized(lowered, DYNAMIC), images)
    # A constant: of the imitation itself, whose error is what it is; it only must not destroy the map.
    assert compare("rounded", expected, rounded, get_task("segment").agreement).cosine_centred > 0.9
    found = sensitivity(lowered, images, None, DYNAMIC, "segment")
    assert last in {layer.name for layer in found} and found[0].divergence > 0


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("onnx", Precision.FP32),
        *(
            pytest.param(name, precision, marks=pytest.mark.slow)
            for name, precision in (
                ("executorch", Precision.FP32),
                ("executorch", Precision.INT8_DYNAMIC),
                ("tflite", Precision.FP32),
                ("tflite", Precision.INT8_DYNAMIC),
                ("onnx", Precision.INT8_STATIC),
                ("coreml", Precision.FP32),
            )
        ),
    ],
)
def test_files_put_out_the_model_s_map(name: str, precision: Precision, head: Head, tmp_path: Path) -> None:
    target = get_target(name)
    model = model_of("registers", head)
    heads = ((0, 1), (1, 2, 3), *([(0, 3)] if head[1] else []))  # a head of several blocks needs the last one
    model = cut(model, Kept(heads, (HALF,) * len(heads))).eval().requires_grad_(False)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    path = tmp_path / f"x{target.suffix}"
    target.export(model, images[:1], path, ExportOptions(precision, images))
    program = target.load(path, threads=1)
    got, reference = torch.cat([program(x) for x in images.split(1)]), model(images)
    assert got.shape == (8, CLASSES, 4, 4)
    parity = compare(name, reference, got, get_task("segment").agreement)
    if precision == Precision.FP32:
        assert parity.max_error < 1e-4 and parity.agreement == 1.0
    else:
        assert as_its_scheme(target, precision, model, images, images, got)
        assert parity.agreement > 0.9  # a constant: nothing simulates how many patches change their class
