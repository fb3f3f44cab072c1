"""Times of operators by the runtimes' own profilers: real files of a tiny ViT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from wdp_edge.cost.parts import Part, parts_of
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError
from wdp_edge.models.vit import structure_of
from wdp_edge.target import ExportOptions, Precision, Tracing, get_target


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8_DYNAMIC, Precision.INT8_STATIC])
@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx"])
def test_operators_of_a_file_are_timed_and_belong_to_parts(
    name: str, precision: Precision, tiny_model: Any, tmp_path: Path
) -> None:
    target = get_target(name)
    assert isinstance(target, Tracing)
    images = torch.randn(4, 3, *tiny_model.patch_embed.img_size)
    path = tmp_path / f"x{target.suffix}"
    target.export(tiny_model, images[:1], path, ExportOptions(precision, images))
    found = LocalDevice().trace(name, path, 1, 5)
    assert all(time.ms >= 0 for time in found) and sum(time.ms for time in found) > 0
    structure = structure_of(tiny_model)
    parts = parts_of([time.role for time in found], structure)
    assert parts is not None
    assert {part for part, _ in parts} == set(Part)
    assert {block for part, block in parts if part is Part.MLP} == set(range(structure.depth))


@pytest.mark.parametrize("name", ["executorch", "tflite", "onnx"])
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{get_target(name).suffix}"
    path.write_bytes(b"no artifact at all")
    with pytest.raises(InputError):
        LocalDevice().trace(name, path, 1, 2)
