"""What a latency table of a recipe is measured for; the measuring itself is tests/cost/test_measure.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_clock_run import recipe_of

from wdp_edge.commands import table as module
from wdp_edge.commands.table import table
from wdp_edge.cost.measure import Setting
from wdp_edge.errors import InputError


def test_it_needs_no_checkpoint_and_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Setting] = []
    measured: Any = object()
    monkeypatch.setattr(module, "measure_table", lambda setting: asked.append(setting) or measured)
    recipe = recipe_of(tmp_path, target="onnx")
    assert table(recipe) is measured
    assert (asked[0].target.name, asked[0].device.name, asked[0].structure.depth) == ("onnx", "local", 3)
    assert (asked[0].timing.rounds, asked[0].timing.runs) == (2, 2)
    with pytest.raises(InputError, match="ResNet"):
        table(replace(recipe, model=replace(recipe.model, name="resnet18", args={})))
