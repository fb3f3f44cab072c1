"""Embeddings without labels: what is measured is how far they moved, whatever all images share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wdp_edge.protocols.task import get_task
from wdp_edge.tasks.features import variance

TASK = get_task("features")


def embeddings(seed: int = 0) -> Tensor:
    return torch.randn(32, 8, generator=torch.Generator().manual_seed(seed))


def test_divergence_is_a_share_of_what_differs_between_the_images() -> None:
    teacher = embeddings()
    mean = teacher.mean(0).expand_as(teacher)
    assert float(TASK.divergence(mean, teacher)) == pytest.approx(0.5, rel=1e-4), "the best that knows no image"
    moved = teacher + 0.1 * embeddings(1)
    apart = float(TASK.divergence(moved, teacher))
    for shared, scale in ((5.0, 1.0), (0.0, 100.0)):
        assert float(TASK.divergence(scale * moved + shared, scale * teacher + shared)) == pytest.approx(
            apart, rel=1e-3
        )


def test_labels_are_not_read() -> None:
    outputs, teacher = embeddings(1), embeddings()
    losses = [TASK.loss(outputs, teacher, labels, 0.3, 2.0)[0] for labels in (torch.zeros(32), torch.arange(32))]
    assert losses[0] == losses[1] == TASK.divergence(outputs, teacher)


def test_a_single_image_has_a_spread() -> None:
    assert float(variance(embeddings()[:1])) > 0 and float(variance(torch.zeros(4, 8))) > 0


def test_the_images_that_changed_most_are_named() -> None:
    dense = embeddings()
    shipped = dense.clone()
    shipped[7], shipped[3] = -dense[7], dense[3] + 0.5 * dense[4]
    found = TASK.drops(dense, shipped, torch.zeros(32), [f"{i}.png" for i in range(32)])
    assert [part.name for part in found.parts[:2]] == ["7.png", "3.png"]
    assert found.parts[0].points == 100 and found.worst == found.parts[0]
    assert TASK.metrics(shipped, torch.zeros(32), dense)[TASK.facts.metric] < 1
