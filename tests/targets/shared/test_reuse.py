"""targets/shared/reuse.py: one conversion for several precisions, and a new one for another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions
from wdp_edge.targets.onnx import graph as onnx_graph
from wdp_edge.targets.onnx.target import ONNXTarget
from wdp_edge.targets.shared.reuse import LastConversion
from wdp_edge.targets.tflite import export as tflite
from wdp_edge.targets.tflite.target import TFLiteTarget

INPUT = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval().requires_grad_(False)


def test_equal_programs_are_made_once_and_others_anew() -> None:
    made: list[int] = []
    kept: LastConversion[int] = LastConversion()

    def get(model: nn.Module, *more: str) -> int:
        def make() -> int:
            made.append(len(made))
            return made[-1]

        return kept.get(torch.export.export(model, (INPUT,)), make, *more)

    model = network(0)
    assert [get(model), get(model), get(network(0))] == [0, 0, 0]
    assert get(model, "float16") == 1
    with torch.no_grad():
        model[2].bias[0] += 1e-4
    assert get(model, "float16") == 2
    assert get(network(0)) == 3  # only the last one is kept


def test_a_conversion_that_failed_is_tried_again() -> None:
    program = torch.export.export(network(0), (INPUT,))
    kept: LastConversion[int] = LastConversion()
    with pytest.raises(ZeroDivisionError):
        kept.get(program, lambda: 1 // 0)
    assert kept.get(program, lambda: 7) == 7


@pytest.mark.parametrize(
    ("target", "module", "name"), [(ONNXTarget(), onnx_graph, "to_onnx"), (TFLiteTarget(), tflite, "convert")]
)
def test_a_target_converts_once_for_all_precisions(
    target: ONNXTarget | TFLiteTarget, module: object, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[object] = []
    own: Callable[..., object] = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args: calls.append(args) or own(*args))
    model = network(1)
    outputs: dict[str, torch.Tensor] = {}
    for precision in (Precision.FP32, Precision.INT8_STATIC, Precision.INT8_DYNAMIC, Precision.FP32):
        path = tmp_path / f"{len(outputs)}-{precision}{target.suffix}"
        target.export(model, INPUT, path, ExportOptions(precision, torch.cat([INPUT, -INPUT])))
        outputs[path.name] = target.load(path, 1)(INPUT)
        assert torch.allclose(outputs[path.name], model(INPUT), atol=1e-5 if precision == Precision.FP32 else 0.05)
    assert len(calls) == 1
    other = network(2)
    target.export(other, INPUT, tmp_path / f"other{target.suffix}", ExportOptions(Precision.FP32))
    assert len(calls) == 2
    assert torch.allclose(target.load(tmp_path / f"other{target.suffix}", 1)(INPUT), other(INPUT), atol=1e-5)
