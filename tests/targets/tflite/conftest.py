"""A small sound file for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, int8-dynamic."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 64), nn.Linear(64, 3)).eval()
    path = tmp_path_factory.mktemp("file") / "model.tflite"
    options = ExportOptions(Precision.INT8_DYNAMIC, metadata={"name": "ü"})
    get_target("tflite").export(model, torch.randn(1, 3, 8, 8), path, options)
    return path
