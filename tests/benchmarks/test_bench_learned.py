"""What each cell of the comparison is allowed to look at, and how gains are paired."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bench_learned as bench
import pytest
from fake_clock_run import fake_clock, recipe_of
from tiny_project import small_project

from wdp_edge.pruning.choose import steps_of
from wdp_edge.pruning.prune import prune


@pytest.mark.parametrize("trains", [False, True])
def test_both_see_equally_many_images_in_all(trains: bool, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "50%")
    seen = []
    for learns in (False, True):
        own = bench.recipe_for(recipe, bench.Variant(learns, trains), "33%", 2, 12_800, tmp_path / "run").prune
        steps = steps_of(own, 1_000)
        looked_at = steps.learn * steps.learn_batch + steps.recover * own.recover.batch_size + own.compensate.images
        assert (own.macs_budget, own.latency_budget, own.seed) == ("33%", "", 2)
        assert bool(steps.learn) == learns and bool(steps.recover) == trains
        seen.append(looked_at)
    assert abs(seen[0] - seen[1]) < own.recover.batch_size, "but for what is left of a batch"


def test_gains_are_paired_by_seed() -> None:
    cells = [
        bench.Cell("50%", seed, bench.Variant(learns, trains), accuracy, 0.1, "narrow heads", 60.0)
        for learns, trains, seed, accuracy in (
            (False, False, 0, 0.80),
            (True, False, 0, 0.81),
            (False, False, 1, 0.90),
            (True, False, 1, 0.93),
            (True, False, 2, 0.99),
            (False, True, 0, 0.95),
        )
    ]
    assert bench.gains(cells, "50%", trains=False) == pytest.approx([1.0, 3.0])
    assert bench.gains(cells, "50%", trains=True) == [] == bench.gains(cells, "33%", trains=False)
    text = bench.tables([*cells, replace(cells[1], share="33%", reached=False, kept=(0.2, 0.9))])
    assert "| 50% | untrained | +2.00 ± 1.41 points | +1.00, +3.00 |" in text
    assert "above its budget | 20% to 90%" in text and "| 50% | trained" not in text


def test_a_cell_is_read_from_its_run(tmp_path: Path, tables: Path) -> None:
    """A whole run of a tiny model on a FAKE clock, which decides nothing."""
    small_project(tmp_path)
    recipe = recipe_of(tmp_path, "50%", target="onnx")
    select = replace(recipe.prune.select, tilt=0.0, drop_sublayers=False, narrow_heads=False)
    recipe = replace(recipe, prune=replace(recipe.prune, select=select))
    variant = bench.Variant(learns=True, trains=False)
    with fake_clock(tables):
        result = prune(bench.recipe_for(recipe, variant, "60%", 1, 4_800, tmp_path / "cell"))
    cell = bench.cell_of("60%", 1, variant, result)
    assert cell.accuracy == result.shipped.accuracy and cell.divergence > 0 and cell.seconds > 0
    assert cell.reached is not None and cell.kept is not None and 0 < cell.kept[0] <= cell.kept[1] < 1
