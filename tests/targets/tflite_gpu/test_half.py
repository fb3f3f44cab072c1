"""The evaluation in 16-bit floats: what overflows there overflows here."""

from __future__ import annotations

from pathlib import Path

import torch
from large_stream import with_large_stream
from tflite_models import some_images
from tiny_families import made
from torch import Tensor, nn

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import tolerance_of, within
from wdp_edge.config.recipe import VerifyRecipe
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.targets.tflite.export import convert
from wdp_edge.targets.tflite.runtime import TFLiteProgram
from wdp_edge.targets.tflite_gpu.half import rounded
from wdp_edge.targets.tflite_gpu.target import TFLiteGpuTarget


class Squares(nn.Module):
    """Squares that are small again in the end."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * x) * 1e-3


def test_squares_beyond_the_largest_16_bit_float_are_infinite(tmp_path: Path) -> None:
    x = torch.tensor([[1.0, 100.0, 255.0, 257.0]])
    data = convert(Squares(), x)
    for name, bytes_ in (("plain", data), ("rounded", rounded(data))):
        (tmp_path / name).write_bytes(bytes_)
    plain, narrow = (TFLiteProgram(tmp_path / name, 1)(x) for name in ("plain", "rounded"))
    assert torch.allclose(plain, x * x * 1e-3)
    assert torch.isinf(narrow[0, 3]) and torch.isfinite(narrow[0, :3]).all()
    assert torch.allclose(narrow[:, :3], plain[:, :3], rtol=2e-3)
    assert not torch.equal(narrow[:, :3], plain[:, :3])


def test_a_stream_whose_squares_overflow_is_scaled_down(tmp_path: Path) -> None:
    target, images = get_target("tflite:gpu"), some_images(4)
    model = with_large_stream(made("plain"), 1024.0).eval()
    with torch.no_grad():
        expected = model(images)

    def narrow(calibration: Tensor | None) -> Tensor:
        path = tmp_path / "model.gpu.tflite"
        target.export(model, images[:1], path, ExportOptions(Precision.FP16, calibration))
        program = TFLiteGpuTarget().load_narrow(path, 1)
        return torch.cat([program(image) for image in images.split(1)])

    # Without images to look at, nothing is known of the stream.
    assert not within(compare("fp16", expected, narrow(None)), tolerance_of(VerifyRecipe(), Precision.FP16))
    assert within(compare("fp16", expected, narrow(images)), tolerance_of(VerifyRecipe(), Precision.FP16))
