"""Core ML packages as callables: what goes in and what comes out, of Core ML itself and of the evaluator."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from core_ml_stand_in import StandIn
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.targets.coreml.package import read_package
from wdp_edge.targets.coreml.runtime import CoreMLProgram, EvaluatedProgram, only_input, tensor_info, to_picture
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

with quiet(), silent_stderr():
    import coremltools
    from coremltools.proto import FeatureTypes_pb2, Model_pb2

MODEL = "Data/com.apple.CoreML/model.mlmodel"


def network() -> nn.Module:
    """What `sound` was exported from."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32)).eval()


def test_the_evaluator_computes_what_the_package_holds(sound: Path) -> None:
    program = EvaluatedProgram(read_package(sound), threads=1)
    assert (program.input_shape, program.input_dtype) == ((1, 3, 8, 8), "float32")
    x = torch.randn(1, 3, 8, 8)
    got = program(x)
    with torch.no_grad():
        assert got.dtype == torch.float32 and torch.cosine_similarity(got, network()(x)) > 0.95


def test_core_ml_gets_arrays_under_the_input_s_name(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coremltools.models, "MLModel", StandIn)
    x = torch.randn(1, 3, 8, 8)
    got = CoreMLProgram(read_package(sound))(x)
    assert torch.allclose(got, torch.tensor([[float(x.mean()), 1, 3, 8, 8, 1]]))


def test_what_core_ml_refuses_is_named(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAKE: Core ML's own errors are of several kinds."""

    def refuse(path: str) -> None:
        raise OSError("first line\nno such compute unit")

    monkeypatch.setattr(coremltools.models, "MLModel", refuse)
    with pytest.raises(InputError, match=r"model\.mlpackage: no such compute unit"):
        CoreMLProgram(read_package(sound))


def test_pixels_become_a_picture() -> None:
    pixels = torch.arange(2 * 5 * 3, dtype=torch.uint8).reshape(1, 3, 2, 5)
    picture = to_picture(pixels)
    assert (picture.mode, picture.size) == ("RGB", (5, 2))
    assert (np.asarray(picture) == pixels[0].permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize("part", ["input", "output"])
def test_a_package_takes_one_image_and_gives_one_result(sound: Path, tmp_path: Path, part: str) -> None:
    path = Path(shutil.copytree(sound, tmp_path / "model.mlpackage"))
    model = Model_pb2.Model()
    model.ParseFromString((path / MODEL).read_bytes())
    values = getattr(model.description, part)
    values.add().CopyFrom(values[0])
    (path / MODEL).write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=rf"2 {part}s"):
        only_input(read_package(path))


def test_descriptions_of_images_and_arrays() -> None:
    image, array = Model_pb2.FeatureDescription(name="photo"), Model_pb2.FeatureDescription(name="x")
    image.type.imageType.height, image.type.imageType.width = 32, 48
    array.type.multiArrayType.shape.extend([1, 7])
    array.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.FLOAT16
    assert (tensor_info(image).name, tensor_info(image).shape, tensor_info(image).dtype) == (
        "photo",
        (1, 3, 32, 48),
        "uint8",
    )
    assert (tensor_info(array).shape, tensor_info(array).dtype) == ((1, 7), "float16")
    array.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.DOUBLE
    assert tensor_info(array).dtype == "unknown"
