"""The evaluation in 16-bit floats: what overflows there overflows here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from wdp_edge.targets.tflite.export import convert
from wdp_edge.targets.tflite.runtime import TFLiteProgram
from wdp_edge.targets.tflite_gpu.half import rounded


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
