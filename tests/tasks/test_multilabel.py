"""Any number of labels per image: figures by their definitions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wdp_edge.task import get_task
from wdp_edge.tasks.multilabel import average_precision, f1

TASK = get_task("multilabel")


def test_average_precision_is_scikit_learn_s_also_with_equal_scores() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 50, generator=generator)
    scores[3:] = scores[3:].round()
    hits = torch.rand(6, 50, generator=generator) < 0.3
    expected = [metrics.average_precision_score(h.numpy(), s.numpy()) for s, h in zip(scores, hits, strict=True)]
    assert average_precision(scores, hits).tolist() == pytest.approx(expected, abs=1e-6)


def test_classes_that_no_image_shows_do_not_count() -> None:
    outputs, labels = torch.tensor([[2.0, 1.0, -1.0], [-2.0, 3.0, -1.0]]), torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    assert TASK.metrics(outputs, labels, None) == {"mAP": 1.0, "F1": pytest.approx((2 / 3 + 0) / 2)}
    assert TASK.metrics(outputs, torch.zeros(2, 3), None)["mAP"] == 0.0


def test_images_without_any_class_are_right_when_none_is_found() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert f1(nothing, nothing) == 1.0
    assert f1(~nothing, nothing) == 0.0
    assert TASK.agreement(torch.full((2, 3), -1.0), torch.full((2, 3), -2.0)) == 1.0
    assert TASK.agreement(torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, -1.0, 1.0]])) == pytest.approx(1 / 3)


def test_divergence_is_that_of_independent_answers_and_finite_for_certain_ones() -> None:
    outputs, teacher = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    yes = torch.stack([F.logsigmoid(teacher), F.logsigmoid(-teacher)])
    got = torch.stack([F.logsigmoid(outputs), F.logsigmoid(-outputs)])
    expected = F.kl_div(got, yes, log_target=True, reduction="sum") / 5
    assert float(TASK.divergence(outputs, teacher)) == pytest.approx(float(expected), rel=1e-5)
    assert torch.isfinite(TASK.divergence(torch.full((1, 2), 200.0), torch.full((1, 2), -200.0)))
