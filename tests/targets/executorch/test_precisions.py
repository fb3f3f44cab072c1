"""Precisions of a .pte: which layers they reach, their ranges and scales, and half precision within its range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from large_stream import with_large_stream
from pte_files import LINEAR, exported, inspected, logits, some_images, stored, vit
from torch import Tensor, nn

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import tolerance_of, within
from wdp_edge.config.recipe import VerifyRecipe
from wdp_edge.errors import InputError
from wdp_edge.lowering.narrow import readers
from wdp_edge.lowering.parts import LoweredNorm
from wdp_edge.lowering.vit import lower, quantized_layers
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, Observer
from wdp_edge.targets.executorch.precisions import GROUP, HalfGelu, HalfModel, HalfNorm, best_scales, needed_patterns


@pytest.mark.parametrize("precision", [Precision.INT8_DYNAMIC, Precision.INT8_STATIC, Precision.INT4_WEIGHT])
def test_kept_layers_stay_float(tmp_path: Path, precision: Precision) -> None:
    """Kept layers are float in the file; with all of them kept the file computes what the model does."""
    model, images = vit(), some_images(8)
    names = quantized_layers(lower(model))
    dtype = "int4" if precision == Precision.INT4_WEIGHT else "int8"
    options = ExportOptions(precision, some_images(4))
    some = exported(tmp_path, replace(options, keep_float=("blocks.0.attn.qkv", "blocks.0.fc1")), model)
    # The patch embedding is quantized by static ranges only.
    assert stored(inspected(some))[dtype] == LINEAR - 4 + (precision == Precision.INT8_STATIC)
    every = exported(tmp_path, replace(options, keep_float=tuple(names)), model)
    assert dtype not in stored(inspected(every))
    with torch.no_grad():
        assert float((logits(every, images) - model(images)).abs().max()) < 1e-4


def test_observers_choose_different_ranges(tmp_path: Path) -> None:
    """The observer reaches the file, and either one's ranges serve its model."""
    torch.manual_seed(0)
    model, calibration = nn.Linear(64, 8).eval(), torch.randn(32, 64)
    files = {}
    for observer in (Observer.MINMAX, Observer.MSE):
        options = ExportOptions(Precision.INT8_STATIC, calibration, observer)
        path = exported(tmp_path, options, model, calibration[:1])
        files[observer] = path.read_bytes()
        with torch.no_grad():
            assert float((logits(path, calibration) - model(calibration)).abs().max()) < 0.05
    assert files[Observer.MSE] != files[Observer.MINMAX]
    exported(tmp_path, ExportOptions(Precision.INT8_STATIC, calibration), model, calibration[:1])
    assert path.read_bytes() == files[Observer.MSE]
    with pytest.raises(InputError, match="no observer 'percentile'"):
        exported(tmp_path, ExportOptions(Precision.INT8_STATIC, calibration, Observer.PERCENTILE), model)


def test_half_runs_where_squares_leave_its_range() -> None:
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0)) * 600
    x[0, 0] = 0
    norm = LoweredNorm(32, 1e-6, centred=True, scale=torch.rand(32) + 0.5)
    with torch.no_grad():
        expected = norm(x)
        got = HalfNorm(norm).half()(x.half())
    assert float(((x * x).half()).max()) == torch.inf
    assert float((got.float() - expected).abs().max()) < 5e-3


@pytest.mark.parametrize("scale", [None, torch.linspace(0.5, 1.5, 32)])
@pytest.mark.parametrize("shift", [None, torch.linspace(-1, 1, 32)])
def test_half_keeps_the_affine_part_of_a_norm(scale: Tensor | None, shift: Tensor | None) -> None:
    """Norms that no linear layer reads keep it: those of Swin V2, and of a convolutional head over the patches."""
    norm = LoweredNorm(32, 1e-6, centred=False, scale=scale, shift=shift)
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = norm(x)
        got = HalfNorm(norm).half()(x.half())
    assert float((got.float() - expected).abs().max()) < 1e-2  # half precision has steps of 2e-3 at the largest value


def test_half_gelu_is_within_half_a_step() -> None:
    x = torch.linspace(-9, 9, 4001)
    assert float((HalfGelu()(x) - nn.functional.gelu(x)).abs().max()) < 5e-4
    assert torch.isfinite(HalfGelu()(torch.tensor([-6e4, -300.0, 0.0, 300.0, 6e4]).half())).all()


def test_half_runs_a_stream_beyond_what_its_norms_can_square(tmp_path: Path) -> None:
    """Squares of an eighth fit up to 2,047; a stream that was looked at is scaled as a whole."""
    model, images = with_large_stream(vit(), 4096.0).eval(), torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        expected = model(images)

    def half(calibration: Tensor | None) -> Tensor:
        return logits(exported(tmp_path, ExportOptions(Precision.FP16, calibration), model, images[:1]), images)

    assert not within(compare("fp16", expected, half(None)), tolerance_of(VerifyRecipe(), Precision.FP16))
    assert within(compare("fp16", expected, half(images)), tolerance_of(VerifyRecipe(), Precision.FP16))


def test_norms_of_a_stream_that_was_looked_at_shrink_nothing() -> None:
    lowered = lower(vit())
    kinds = {type(m).__name__ for m in HalfModel(lowered, readers(lowered)).modules()}
    assert "LoweredNorm" in kinds and "HalfNorm" not in kinds


def test_half_leaves_no_float_weight() -> None:
    assert {p.dtype for p in HalfModel(lower(vit())).parameters()} == {torch.float16}


def test_a_width_without_groups_gets_eight_bits(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(GROUP, 48), nn.ReLU(), nn.Linear(48, 8)).eval()
    path = exported(tmp_path, ExportOptions(Precision.INT4_WEIGHT), model, torch.ones(1, GROUP))
    assert {w.dtype: w.bytes for w in inspected(path).weights if w.dtype.startswith("int")} == {
        "int4": GROUP * 48 // 2,
        "int8": 48 * 8,
    }


def test_scales_lose_less_than_those_of_the_largest_weight() -> None:
    weight = torch.randn(16, 4 * GROUP, generator=torch.Generator().manual_seed(0))

    def error(scales: Tensor) -> float:
        steps = scales.repeat_interleave(GROUP, 1)
        return float(((weight / steps).round().clamp(-8, 7) * steps - weight).square().mean())

    largest = weight.reshape(16, -1, GROUP).abs().amax(2) / 7
    assert error(best_scales(weight, 4, GROUP)) < 0.9 * error(largest)
    assert bool((best_scales(torch.zeros(2, GROUP), 4, GROUP) > 0).all())


def test_batch_norms_are_looked_for_where_there_is_one() -> None:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    every, convolution = XNNPACKQuantizer.SUPPORTED_PATTERNS, nn.Conv2d(3, 4, 1)
    found = {}
    for model in (convolution, nn.Sequential(convolution, nn.BatchNorm2d(4))):
        module = torch.export.export(model.eval(), (some_images(1),)).module()
        found[type(model)] = {pattern.name for pattern in needed_patterns(every, module)}
    assert found[nn.Sequential] == {pattern.name for pattern in every}
    assert found[nn.Sequential] - found[nn.Conv2d] == {
        "conv_bn",
        "conv_bn_relu",
        "conv_transpose_bn",
        "conv_transpose_bn_relu",
    }
