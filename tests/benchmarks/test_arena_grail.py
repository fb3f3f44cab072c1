"""GRAIL's compensation on a tiny real ViT."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from arena.grail import compensated, gram_matrices, merge
from torch import nn

from wdp_edge.models.surgery import Kept, cut


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_inputs_that_hang_on_others_cost_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 12, generator=generator)
    x = torch.randn(500, 4, generator=generator) @ mixing  # twelve inputs in four dimensions
    dense, small = nn.Linear(12, 5), nn.Linear(6, 5)
    small.bias = dense.bias
    kept = [0, 2, 3, 5, 8, 11]
    with torch.no_grad():
        small.weight.copy_(dense.weight[:, kept])
        before = float((small(x[:, kept]) - dense(x)).norm())
        merge(dense, small, x.double().T @ x.double(), kept)
        assert float((small(x[:, kept]) - dense(x)).norm()) < 0.02 * before


def test_a_cut_model_is_nearer_to_the_dense_one(tiny_model: Any) -> None:
    blocks = tiny_model.blocks
    kept = Kept(tuple((0, 2, 3) for _ in blocks), tuple(tuple(range(0, 128, 2)) for _ in blocks))
    data = SimpleNamespace(prepare=lambda x: x, calibration=images(128))
    setting: Any = SimpleNamespace(dense=tiny_model, data=data)
    proposal = compensated(setting, kept)
    assert proposal.images == 128
    with torch.no_grad():
        x, plain = images(64, seed=1), cut(tiny_model, kept).eval()
        wanted = tiny_model.eval()(x)
        assert (proposal.model.eval()(x) - wanted).norm() < 0.9 * (plain(x) - wanted).norm()


def test_gram_matrices_are_of_what_proj_and_fc2_read(tiny_model: Any) -> None:
    grams, seen = gram_matrices(tiny_model, images(8)), list[torch.Tensor]()
    hook = tiny_model.blocks[0].mlp.fc2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        tiny_model(images(8))
    hook.remove()
    x = seen[0].flatten(0, -2).double()
    assert torch.allclose(grams[0][1], x.T @ x, rtol=1e-4, atol=1e-4)
    assert [(a.shape[0], m.shape[0]) for a, m in grams] == [(32, 128)] * 3
