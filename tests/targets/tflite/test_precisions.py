"""Smaller weights for a converted .tflite: which layers get them, and which ranges are chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tflite_models import INT8, error, run, small_model, some_images
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, Observer
from wdp_edge.targets.tflite.export import convert
from wdp_edge.targets.tflite.pack import pack, unpack
from wdp_edge.targets.tflite.precisions import layer_tensors, quantize, weight_key
from wdp_edge.targets.tflite.target import TFLiteTarget


@dataclass(frozen=True)
class Converted:
    """A float32 file, quantized again and again without another conversion."""

    model: nn.Module
    lowered: nn.Module
    data: bytes

    def quantized(self, folder: Path, options: ExportOptions, observer: Observer = Observer.MSE) -> Path:
        path = folder / "quantized.tflite"
        path.write_bytes(pack(unpack(quantize(self.data, self.lowered, options, observer)), {}))
        return path


@pytest.fixture(scope="module")
def converted() -> Converted:
    model = small_model()
    lowered = lower(model)
    return Converted(model, lowered, convert(lowered, some_images(1)))


@pytest.mark.parametrize("precision", INT8)
def test_layers_named_stay_float(converted: Converted, tmp_path: Path, precision: Precision) -> None:
    kept = ("blocks.0.attn.qkv", "blocks.1.fc2", "head")
    images = some_images(16)
    options = ExportOptions(precision, images if precision == Precision.INT8_STATIC else None, keep_float=kept)
    path = converted.quantized(tmp_path, options)
    content = unpack(path.read_bytes())
    shapes = [tuple(t.shape) for t in content.subgraphs[0].tensors if t.shape is not None]
    floats = ["blocks.0.attn.q", "blocks.0.attn.k", "blocks.0.attn.v", "blocks.1.fc2", "head"]
    stored = {bytes(b.data) for b in content.buffers if b.data is not None}
    for name in quantized_layers(converted.lowered):
        layer = converted.lowered.get_submodule(name)
        shape, _ = weight_key(layer)
        assert shape in shapes
        weight = layer.weight.permute(0, 2, 3, 1) if layer.weight.ndim == 4 else layer.weight
        assert (weight.contiguous().numpy().tobytes() in stored) == (name in floats), name
    assert error(run(path, images), converted.model(images)) < 0.1


def test_observers_choose_other_ranges(converted: Converted, tmp_path: Path) -> None:
    """One far value in a calibration image: min-max takes it in, the others cut it off."""
    images = some_images(64)
    calibration = images.clone()
    calibration[0, 0, 0, 0] = 300.0
    reference, options = converted.model(images), ExportOptions(Precision.INT8_STATIC, calibration)
    found = {o: error(run(converted.quantized(tmp_path, options, o), images), reference) for o in Observer}
    assert set(TFLiteTarget.observers) == set(Observer)
    assert found[Observer.PERCENTILE] < found[Observer.MINMAX]
    assert len(set(found.values())) == 3


def test_a_layer_that_the_converter_changed() -> None:
    """Its weights are no longer what the model's names say, so it cannot be quantized by name."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].running_var.fill_(4.0)
    with pytest.raises(InputError, match="merged 0 with"):
        layer_tensors(convert(network, some_images(1)), network, ["0"])
