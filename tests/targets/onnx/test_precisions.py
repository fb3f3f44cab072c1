"""Other precisions of an ONNX graph: which layers they reach, what they mean, and which ranges are chosen."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx_files import (
    INT8,
    SCHEMES,
    TARGET,
    centred_cosine,
    export,
    int8_weights,
    run,
    small_model,
    some_images,
    weights,
)
from rounded_models import fake_quantized, predict
from torch import nn

from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Observer


@pytest.mark.parametrize("precision", INT8)
def test_int8_computes_what_int8_means(tmp_path: Path, precision: Precision) -> None:
    """The file against an independent imitation of its arithmetic in float.

    q stays float, so k and v share their input with a layer that must not see it rounded. Static biases are rounded
    too, by 1e-5, which behind the first layer flips a few roundings in most images: that one stays float here.
    """
    model, images, seen = small_model(), some_images(24), some_images(16, 2)
    kept = ("embedding.patch_embed.proj", "blocks.0.attn.q")
    export(model, tmp_path / "x.onnx", precision, calibration=seen, keep_float=kept)
    got = run(tmp_path / "x.onnx", images)
    imitated = predict(fake_quantized(lower(model, norms="native"), SCHEMES[precision], seen, kept), images)
    dynamic = precision == Precision.INT8_DYNAMIC
    with torch.no_grad():
        error = (imitated - model(images)).abs()
    assert float((got - imitated).abs().median()) < (1e-6 if dynamic else 1e-4)
    assert float(error.median()) > 1e-3
    # Constants: not int8 against float, but two computations of the same, apart where a rounding goes the other way.
    assert centred_cosine(got, imitated) > (0.999 if dynamic else 0.98)


@pytest.mark.parametrize("precision", INT8)
def test_layers_kept_in_float(tmp_path: Path, precision: Precision) -> None:
    path, kept = tmp_path / "x.onnx", ("blocks.1.attn.qkv", "blocks.0.fc2", "head", "embedding.patch_embed.proj")
    export(small_model(), path, precision, keep_float=kept)
    layers = set(quantized_layers(lower(small_model())))
    parts = {"blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v"}
    assert int8_weights(path) == layers - set(kept) - parts


@pytest.mark.parametrize("precision", INT8)
def test_all_layers_kept_in_float(tmp_path: Path, precision: Precision) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).eval()
    export(model, tmp_path / "x.onnx", precision, keep_float=("1",))
    assert "int8" not in weights(TARGET.inspect(tmp_path / "x.onnx"))


def test_observers_choose_other_ranges(tmp_path: Path) -> None:
    images = some_images(32, 2)
    images[3, 0, 0, 0] = 40.0
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).eval()
    scales: dict[Observer | None, float] = {}
    for observer in (None, *TARGET.observers):
        export(model, tmp_path / "x.onnx", Precision.INT8_STATIC, calibration=images, observer=observer)
        scale = next(t for t in onnx.load(tmp_path / "x.onnx").graph.initializer if t.name.endswith("Reshape_scale"))
        scales[observer] = float(numpy_helper.to_array(scale))
    minmax, percentile, mse = (scales[o] for o in (Observer.MINMAX, Observer.PERCENTILE, Observer.MSE))
    assert 40 / 255 < minmax < 50 / 255
    assert percentile < 10 / 255 and mse < minmax and mse != percentile
    assert scales[None] == scales[TARGET.observers[0]]


@pytest.mark.parametrize("precision", INT8)
def test_small_weights_are_not_rounded_away(tmp_path: Path, precision: Precision) -> None:
    """LayerScale folded in makes weights of 1e-7 and less, whose scales a toolkit may not raise to a floor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.GELU(), nn.Linear(64, 16)).eval()
    images = some_images(6)
    with torch.no_grad():
        for parameter in model[3].parameters():
            parameter.mul_(1e-6)
        reference = model(images)
    export(model, tmp_path / "x.onnx", precision)
    # A constant: a scale raised to a floor rounds all of these weights to 0.
    assert centred_cosine(1e6 * run(tmp_path / "x.onnx", images), 1e6 * reference) > 0.99
