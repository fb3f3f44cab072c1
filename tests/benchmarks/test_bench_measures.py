"""Structures of one budget, ordered by every measure, on a project's own images."""

from __future__ import annotations

import sys
from pathlib import Path

import bench_measures as measures
import pytest
import torch
from fake_clock_run import recipe_of
from tiny_project import small_project

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, dump_recipe, load_recipe
from wdp_edge.models import vit
from wdp_edge.models.structure import count
from wdp_edge.pruning.inputs import Inputs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = small_project(tmp_path_factory.mktemp("project"))
    recipe = recipe_of(folder, "50%", target="onnx")
    (folder / RECIPE_FILE).write_text(dump_recipe(recipe, comments=False))
    return folder


def test_structures_are_within_their_share_of_macs(project: Path, tmp_path: Path) -> None:
    inputs = Inputs.of(absolute_paths(load_recipe(project / RECIPE_FILE)))
    half = measures.halves(inputs, 0, swap=False)
    assert (len(half.held), len(half.calibration), len(half.new)) == (12, 24, 36)
    dense, geometry = vit.structure_of(half.model), vit.geometry_of(half.model)
    whole = count(dense, geometry).macs
    assert measures.counted(half.model).predict(dense) == pytest.approx(whole / 1e6, rel=1e-6)
    found = {name: kept.structure(dense) for name, _, kept in measures.structures(half, 0.6, 0, tmp_path)}
    assert "uniform" in found and len(found) > 10
    assert all(0.3 * whole < count(structure, geometry).macs <= 0.6 * whole for structure in found.values())


def test_crops_show_a_part_of_the_image() -> None:
    rows = torch.arange(32, dtype=torch.uint8).mul(8)[None, None, :, None].expand(4, 3, 32, 32)
    seen = measures.crops(rows)
    assert seen.shape == rows.shape and seen.dtype == torch.uint8
    spread = seen.amax((1, 2, 3)).int() - seen.amin((1, 2, 3)).int()
    assert (spread < 0.85 * 248).all() and (spread > 0.3 * 248).all()


def test_every_measure_gets_a_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "use", lambda reporter: None)
    monkeypatch.setattr(sys, "argv", ["bench", "--project", str(project), "--share", "0.6"])
    measures.main()
    lines = capsys.readouterr().out.splitlines()
    for name in measures.MEASURES:
        (line,) = [each for each in lines if each.startswith(f"| {name} |")]
        cell = line.split("|")[2].strip()
        assert cell == "–" or -1 <= float(cell) <= 1
    assert "–" not in next(line for line in lines if line.startswith("| divergence |"))
