"""Times of operators by a runtime's own profiler, of a real file of the tiny ViT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_vit import TINY, lively

from wdp_edge.cost.parts import Part, parts_of
from wdp_edge.devices.local import LocalDevice
from wdp_edge.errors import InputError
from wdp_edge.models.spec import create
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, Tracing, get_target

PRECISIONS = (Precision.FP32, Precision.INT8_DYNAMIC, Precision.INT8_STATIC)


def tiny() -> Any:
    torch.manual_seed(0)
    return lively(create(TINY))


def exported(name: str, folder: Path) -> dict[Precision, Path]:
    """The tiny model in every precision, by one target, which may convert it once. name: of the target."""
    target, images = get_target(name), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    paths = {precision: folder / f"{precision}{target.suffix}" for precision in PRECISIONS}
    for precision, path in paths.items():
        target.export(tiny(), images[:1], path, ExportOptions(precision, images))
    return paths


def check_times_and_parts(name: str, path: Path) -> None:
    """That operators take time, and belong to all parts of all the tiny model's blocks. name: of the target."""
    assert isinstance(get_target(name), Tracing)
    found = LocalDevice().trace(name, path, 1, 5)
    assert all(time.ms >= 0 for time in found) and sum(time.ms for time in found) > 0
    structure = structure_of(tiny())
    parts = parts_of([time.role for time in found], structure)
    assert parts is not None
    assert {part for part, _ in parts} == set(Part)
    assert {block for part, block in parts if part is Part.MLP} == set(range(structure.depth))


def check_refusal(name: str, folder: Path) -> None:
    """That a damaged file is refused. name: of the target."""
    path = folder / f"x{get_target(name).suffix}"
    path.write_bytes(b"no artifact at all")
    with pytest.raises(InputError):
        LocalDevice().trace(name, path, 1, 2)
