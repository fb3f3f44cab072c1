"""Embeddings for search: neighbours and places both count, and queries without a partner are left out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wdp_edge.protocols.task import get_task
from wdp_edge.tasks.similarity import neighbour_divergence

TASK = get_task("retrieve")


def embeddings(seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(24, 6, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_an_index_of_the_dense_model_stays_usable() -> None:
    """Turned embeddings have the same neighbours, but not at the places where the index has them."""
    teacher = embeddings()
    turned = teacher @ torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(4)))[0]
    assert float(neighbour_divergence(turned, teacher, 0.1)) == pytest.approx(0, abs=1e-5)
    away = 1 - F.cosine_similarity(turned, teacher).mean()
    assert float(TASK.divergence(turned, teacher)) == pytest.approx(float(away), abs=1e-5) and away > 0.1


def test_the_share_of_distillation_is_that_of_the_recipe() -> None:
    outputs, teacher, labels = embeddings(1), embeddings(), torch.arange(24) % 4
    none, half, all_ = (float(TASK.loss(outputs, teacher, labels, share, 2.0)[0]) for share in (0.0, 0.5, 1.0))
    assert half == pytest.approx((none + all_) / 2, rel=1e-5)
    assert all_ == pytest.approx(float(TASK.divergence(outputs, teacher)), rel=1e-5)


def test_a_class_loses_the_queries_that_no_longer_find_it() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    dense = torch.eye(3)[labels]
    shipped = dense.clone()
    shipped[0] = torch.tensor([0.9, 0.3, 0.0])  # whose partner is gone: a dog is nearest
    shipped[1] = torch.tensor([0.0, 0.0, 1.0])  # nearest to the lonely image of the third class
    found = TASK.drops(dense, shipped, labels, ["cat", "dog", "emu"])
    assert [(d.name, d.images, d.points) for d in found.parts] == [("cat", 2, 100.0), ("dog", 3, 0.0), ("emu", 0, None)]
