"""Files of this folder's tests that are made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import TARGET
from tiny_vit import TINY, lively

from wdp_edge.models.spec import create
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as we write it; not to be changed."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sound") / "model.onnx"
    TARGET.export(lively(create(TINY)), torch.zeros(1, 3, 16, 16), path, ExportOptions(Precision.FP32))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights in `beside.bin`, in a name of two lines, outside the folder, and there through a link."""
    weights, inside = np.eye(4, dtype=np.float32).tobytes(), tmp_path / "inside"
    inside.mkdir()
    for path in (inside / "beside.bin", inside / "two\nlines.bin", tmp_path / "outside.bin"):
        path.write_bytes(weights)
    (inside / "link.bin").symlink_to(tmp_path / "outside.bin")
    return inside
