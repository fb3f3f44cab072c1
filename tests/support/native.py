"""What tests of native runners share: small files to run, and ways to run them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target
from wdp_edge.runners.build import Bundle

TARGETS = ("executorch", "tflite", "onnx")


def needs(*tools: str) -> pytest.MarkDecorator:
    missing = [name for name in tools if shutil.which(name) is None]
    reason = f"{', '.join(missing)} not installed: see docs/reference/runners.md"
    return pytest.mark.skipif(bool(missing), reason=reason)


class Net(nn.Module):
    """Small enough to export in a second. pixels: it takes uint8 and scales it itself."""

    def __init__(self, width: int, pixels: bool = False) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.pixels = pixels
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 20))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.float() / 255 if self.pixels else x)


def export(target: str, folder: Path, width: int, pixels: bool = False) -> Path:
    adapter = get_target(target)
    path = folder / f"net{width}{'-pixels' if pixels else ''}{adapter.suffix}"
    example = torch.zeros(1, 3, 4, 4, dtype=torch.uint8 if pixels else torch.float32)
    adapter.export(Net(width, pixels).eval(), example, path, ExportOptions(Precision.FP32))
    return path


def run(bundle: Bundle, *words: object, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = [*bundle.argv(str(bundle.folder)), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env={})


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a runner that refuses."""
    assert done.returncode == 3, (done.returncode, done.stderr)
    assert done.stderr.endswith("\n") and len(done.stderr.splitlines()) == 1
    assert '"done"' not in done.stdout
    return done.stderr.strip()
