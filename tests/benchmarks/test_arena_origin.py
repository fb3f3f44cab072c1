"""What cells are made with, and that those of different making do not meet in a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from arena.cells import Cell, Origin, Store
from arena.methods import DENSE, OURS
from arena.origin import MixedOrigins, code_digest, common, origin_of
from arena.setting import refit_within
from arena.show import tables
from bench_pruners import refuse_mixed

from wdp_edge.config.recipe import Recipe

HERE, THERE = Origin("0.1.0+aaaaaaaaaa", "bbbbbbbbbbbb"), Origin("0.1.0+cccccccccc", "bbbbbbbbbbbb")


def cell(method: str, origin: Origin, images: int = 0) -> Cell:
    steps = images // 10
    return Cell(
        method, 0.5, 0, images, method == OURS, 0.9, 0.5, 10**6, 10**5, 1.0, Path("x"), {}, 0.5, origin, steps, 3e-4
    )


def test_tables_say_what_they_were_made_with() -> None:
    text = tables([cell(DENSE, HERE), cell(OURS, HERE, 100), cell("uniform width", HERE, 100)], [])
    assert text.startswith("Made by code 0.1.0+aaaaaaaaaa with recipe bbbbbbbbbbbb.")
    assert "| ours | 100 | 10 | 0.0003 | 0 |" in text


def test_no_table_is_drawn_of_cells_of_different_making() -> None:
    with pytest.raises(MixedOrigins, match=r"(?s)aaaaaaaaaa.*dense-50.*cccccccccc.*ours-50"):
        tables([cell(DENSE, HERE), cell(OURS, THERE)], [])


def test_the_program_ends_before_it_makes_cells_that_could_not_be_shown(tmp_path: Path) -> None:
    store, recipe = Store(tmp_path), Recipe()
    refuse_mixed(store, recipe)
    store.put(cell(OURS, origin_of(recipe)))
    refuse_mixed(store, recipe)
    store.put(cell(DENSE, THERE))
    with pytest.raises(SystemExit, match="not made with the same code"):
        refuse_mixed(store, recipe)
    store.path(cell(OURS, HERE)).unlink()
    with pytest.raises(SystemExit, match=r"made with code 0\.1\.0\+cccccccccc"):
        refuse_mixed(store, recipe)


def test_origins_differ_by_code_and_by_what_all_methods_share(tmp_path: Path) -> None:
    (tmp_path / "wdp_edge").mkdir()
    (tmp_path / "wdp_edge" / "a.py").write_text("x = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert code_digest(tmp_path) == before, "docs make no cell"
    (tmp_path / "wdp_edge" / "a.py").write_text("x = 2\n")
    assert code_digest(tmp_path) != before
    recipe = Recipe()
    own = origin_of(recipe)
    of_a_key = replace(recipe, prune=replace(recipe.prune, seed=3, latency_budget="50%"))
    assert origin_of(of_a_key) == own == origin_of(refit_within(recipe, 5000))
    other = replace(recipe, prune=replace(recipe.prune, precision="fp32"))
    assert origin_of(other).recipe != own.recipe


def test_cells_of_before_have_no_origin() -> None:
    old = cell(OURS, HERE)
    assert common([old]) == HERE
    assert Cell(OURS, 0.5, 0, 0, True, 0.9, 0.5, 1, 1, 1.0, Path("x"), {}).origin == Origin("unknown", "unknown")
