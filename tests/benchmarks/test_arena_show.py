"""Cells as tables and pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from arena.cells import Cell
from arena.methods import CONTROL, DENSE, OURS
from arena.show import means, picture, table, tables

PEER = "TP Taylor, isomorphic, heads and hidden"


def cell(method: str, share: float, accuracy: float, seed: int = 0, images: int = 100) -> Cell:
    return Cell(method, share, seed, images, method == OURS, accuracy, share, 10**6, 10**5, 1.0, Path("x"), {}, None)


CELLS = [
    cell(DENSE, 1.0, 0.90, images=0),
    cell(CONTROL, 1.0, 0.92),
    cell(PEER, 0.5, 0.80),
    cell(OURS, 0.5, 0.88, seed=0),
    cell(OURS, 0.5, 0.90, seed=1),
    cell(OURS, 0.33, 0.70),
]


def test_losses_are_counted_from_the_better_of_dense_and_control_and_seeds_are_averaged() -> None:
    text = tables(CELLS, [])
    assert "Control: 92.00% after 100 images" in text
    assert "| ours | 89.00 ± 1.00 % | 3.00 | 50.0% | 1 M | 70.00 % | 22.00 | 33.0% | 1 M |" in text
    assert f"| {PEER} | 80.00 % | 12.00 | 50.0% | 1 M | – | – | – | – |" in text
    assert "no training" not in text


def test_a_method_without_cells_has_no_row() -> None:
    assert "uniform" not in table(CELLS, 0.9)


def test_the_picture_has_one_point_per_share(tmp_path: Path) -> None:
    assert means([c for c in CELLS if c.method == OURS]) == [(0.33, pytest.approx(70)), (0.5, pytest.approx(89))]
    picture(CELLS, tmp_path / "pruners.png")
    assert (tmp_path / "pruners.png").read_bytes().startswith(b"\x89PNG")
