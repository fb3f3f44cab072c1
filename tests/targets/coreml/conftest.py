"""A small sound package for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions
from wdp_edge.targets.coreml.target import CoreMLTarget


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with int4, int8 and float16 weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 32)).eval()
    path = tmp_path_factory.mktemp("sound") / "model.mlpackage"
    CoreMLTarget().export(model, torch.zeros(1, 3, 8, 8), path, ExportOptions(Precision.INT4_WEIGHT))
    return path
