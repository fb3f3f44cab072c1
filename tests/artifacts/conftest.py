"""A saved model and images to calibrate it with, for the exports of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wdp_edge.artifacts.export_job import ExportJob
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.models.files import save
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.precision import Precision


@pytest.fixture
def saved(tmp_path: Path, tiny_model: Any, tiny_spec: ModelSpec) -> Path:
    """The folder of the tiny model."""
    folder = tmp_path / "model"
    save(tiny_model, tiny_spec, folder)
    return folder


@pytest.fixture
def job(tmp_path: Path) -> ExportJob:
    """One file in float32."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator)
    save_file({"images": images}, tmp_path / "calibration.safetensors")
    look = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bicubic", 1.0)
    return ExportJob(tmp_path / "m.onnx", Precision.FP32, look, tmp_path / "calibration.safetensors")
