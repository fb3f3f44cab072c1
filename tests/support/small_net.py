"""A net that is exported in a second, for tests of what times and runs files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import ExportOptions, get_target

SMALL, LARGE = 8, 20_000


class Net(nn.Module):
    """Small enough to export in a second; `width` sets what it costs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def export_nets(folder: Path) -> dict[int, Path]:
    """One .pte for each width, for inputs of [1, 3, 4, 4]."""
    target, example = get_target("executorch"), torch.zeros(1, 3, 4, 4)
    made = {width: folder / f"net{width}.pte" for width in (SMALL, LARGE)}
    for width, path in made.items():
        target.export(Net(width).eval(), example, path, ExportOptions(Precision.FP32))
    return made


def images(n: int) -> Tensor:
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(0))
