"""One label per image: probabilities compared, accuracy, and what classes lose."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wdp_edge.artifacts.parity import accuracy
from wdp_edge.protocols.task import get_task
from wdp_edge.tasks.classify import distillation

TASK = get_task("classify")


def some_logits(seed: int) -> torch.Tensor:
    return torch.randn(24, 8, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_distillation_and_cross_entropy() -> None:
    outputs, teacher, labels = some_logits(1), some_logits(2), torch.arange(24) % 4
    loss, distilled = TASK.loss(outputs, teacher, labels, 0.7, 2.0)
    kl = 4 * F.kl_div((outputs / 2).log_softmax(-1), (teacher / 2).log_softmax(-1), log_target=True, reduction="sum")
    assert float(distilled) == pytest.approx(float(kl) / 24, rel=1e-5)
    assert float(loss) == pytest.approx(0.7 * float(kl) / 24 + 0.3 * float(F.cross_entropy(outputs, labels)), rel=1e-5)
    assert TASK.metrics(outputs, labels, None) == {"accuracy": accuracy(outputs, labels)}


def test_predictions_of_half_precision_are_compared_in_float32() -> None:
    """Nearly equal ones differ by less than half precision can tell."""
    teacher = some_logits(0)
    got = distillation((teacher + 1e-3).bfloat16(), teacher, 2.0)
    assert got.dtype == torch.float32 and 0 <= float(got) < 1e-3
    assert float(distillation(1e-9 + teacher.double(), teacher.double(), 1.0)) >= 0


def test_each_class_loses_its_own_images() -> None:
    labels = torch.tensor([0] * 10 + [1] * 20)
    dense = F.one_hot(labels, 2).float()
    shipped = dense.clone()
    shipped[:5] = shipped[:5].flip(1)
    found = TASK.drops(dense, shipped, labels, ["cat", "dog"])
    assert [(d.name, d.images, d.dense, d.shipped, d.points) for d in found.parts] == [
        ("cat", 10, 1.0, 0.5, 50.0),
        ("dog", 20, 1.0, 1.0, 0.0),
    ]
    assert found.overall.points == pytest.approx(100 * 5 / 30)
