"""What is done to a chosen structure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from cut_models import halved, pictures, prepare
from tiny_vit import TINY

from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.models.files import load, save
from wdp_edge.models.vit import structure_of
from wdp_edge.pruning.finish import masked_and_cut, recovered_model, split_metric
from wdp_edge.tasks.kinds import CLASSIFY


def test_a_model_under_masks_says_what_the_cut_one_says(tiny_model: Any) -> None:
    kept, images = halved(tiny_model, depth=2), prepare(pictures(4))
    with torch.no_grad():
        masked, shrunk = masked_and_cut(tiny_model, kept, images)
        narrow = replace(kept, head_channels=tuple((0, 2, 5) for _ in kept.heads))
        masked_narrow, shrunk_narrow = masked_and_cut(tiny_model, narrow, images)
    assert torch.allclose(masked, shrunk, atol=1e-5) and torch.allclose(masked_narrow, shrunk_narrow, atol=1e-5)
    assert not torch.allclose(masked, masked_narrow, atol=1e-2)


@pytest.mark.parametrize(("name", "folder"), [("recover", "model"), ("tighten-0", "stages/tighten-0")])
def test_without_steps_the_refitted_model_ships(tiny_model: Any, tmp_path: Path, name: str, folder: str) -> None:
    save(tiny_model, TINY, tmp_path / "stages/compensated")
    data = SimpleNamespace(task=SimpleNamespace(facts=CLASSIFY))
    held_back: Any = SimpleNamespace(model=SimpleNamespace(spec=TINY), data=data)
    recovered = recovered_model(held_back, PruneRecipe(), lambda: None, tmp_path, "stages/compensated", 0, name)
    assert recovered.images == 0 and recovered.curve == []
    shipped: Any = load(tmp_path / folder)
    assert structure_of(shipped) == structure_of(tiny_model)
    assert all(torch.equal(value, tiny_model.state_dict()[key]) for key, value in shipped.state_dict().items())


def test_a_task_s_metric_is_its_first_figure() -> None:
    assert split_metric({"accuracy": 0.5, "top-5": 0.9}) == (0.5, {"top-5": 0.9})
