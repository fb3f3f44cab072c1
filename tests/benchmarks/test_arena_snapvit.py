"""SnapViT's scores, its one order of all units, and its search, on a tiny real ViT."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from arena import snapvit
from arena.snapvit import Scores, found_scores, gradient_scores, kept, units_kept
from arena.xnes import minimise
from pytest import MonkeyPatch

from wdp_edge.models.vit import structure_of


def images(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def prepared(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 127.5 - 1


def test_units_go_by_one_order_but_of_every_block_some_stay() -> None:
    scores = [torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([5.0, 6.0, 7.0, 8.0])]
    assert units_kept(scores, 0.25, 0.25) == ((2, 3), (0, 1, 2, 3))
    assert units_kept(scores, 0.75, 0.25) == ((3,), (3,)), "the best of the first block would go before"
    assert units_kept(scores, 0.99, 0.25) == ((3,), (3,))
    found = kept(Scores((torch.rand(20), torch.rand(20)), (torch.rand(4), torch.rand(4))), 0.1)
    assert sum(map(len, found.hidden)) == 36 and sum(map(len, found.heads)) == 8, "heads go later than hidden units"


def test_a_unit_that_nothing_reads_has_no_score(tiny_model: Any) -> None:
    block = tiny_model.blocks[1]
    with torch.no_grad():
        block.mlp.fc2.weight[:, 7] = 0
        block.attn.proj.weight.unflatten(1, (4, 8))[:, 2] = 0
    scores = gradient_scores(tiny_model, images(16), prepared)
    assert [tuple(s.shape) for s in scores.hidden] == [(128,)] * 3 and len(scores.heads[0]) == 4
    assert scores.hidden[1][7] == 0 and (scores.hidden[0] > 0).all()
    assert scores.heads[1][2] == 0 and (scores.heads[0] > 0).all()
    assert all(p.grad is None for p in tiny_model.parameters())


def test_the_search_gives_every_block_and_head_a_factor(tiny_model: Any, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(snapvit, "EVALUATIONS", 4)
    data = SimpleNamespace(calibration=images(64), prepare=prepared)
    setting: Any = type("Setting", (), {})()
    setting.data, setting.dense = data, tiny_model
    setting.recipe = SimpleNamespace(prune=SimpleNamespace(seed=3))
    scores = found_scores(setting)
    assert found_scores(setting) is scores, "one search for all shares"
    small = snapvit.snapvit(setting, 0.5)
    blocks = structure_of(small.model).blocks
    assert small.images == 64 and sum(b.hidden for b in blocks) == 192 and sum(b.heads for b in blocks) == 8


def test_the_evolution_strategy_finds_a_minimum() -> None:
    wanted = np.array([1.5, -0.5, 2.0])
    calls = []

    def loss(x: Any) -> float:
        calls.append(x)
        return float(((x - wanted) ** 2).sum())

    found = minimise(loss, np.zeros(3), 400, seed=0)
    assert loss(found) < 0.05 and len(calls) == 401
    assert np.array_equal(found, minimise(loss, np.zeros(3), 400, seed=0))
