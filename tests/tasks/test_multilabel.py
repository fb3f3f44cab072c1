"""Any number of labels per image: figures by their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from wdp_edge.protocols.task import get_task

TASK = get_task("multilabel")


def test_images_of_equal_value_count_together() -> None:
    outputs = torch.tensor([[1.0, -1.0], [1.0, -1.0], [0.5, -1.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    expected = (1 / 2 + 2 / 3) / 2  # not 1 for the first of two equals
    assert TASK.metrics(outputs, labels, None)["mAP"] == pytest.approx(expected)
    assert TASK.metrics(outputs.flip(0), labels.flip(0), None)["mAP"] == pytest.approx(expected)


def test_classes_that_no_image_shows_do_not_count() -> None:
    outputs, labels = torch.tensor([[2.0, 1.0, -1.0], [-2.0, 3.0, -1.0]]), torch.tensor([[1.0, 0, 0], [0, 0, 0]])
    assert TASK.metrics(outputs, labels, None) == {"mAP": 1.0, "F1": pytest.approx((2 / 3 + 0) / 2)}
    assert math.isnan(TASK.metrics(outputs, torch.zeros(2, 3), None)["mAP"])


def test_images_without_any_class_are_right_when_none_is_found() -> None:
    nothing, found = torch.full((1, 3), -1.0), torch.full((1, 3), 1.0)
    assert TASK.metrics(nothing, torch.zeros(1, 3), None)["F1"] == 1.0
    assert TASK.metrics(found, torch.zeros(1, 3), None)["F1"] == 0.0
    assert TASK.agreement(torch.full((2, 3), -1.0), torch.full((2, 3), -2.0)) == 1.0
    assert TASK.agreement(torch.tensor([[1.0, 1.0, -1.0]]), torch.tensor([[1.0, -1.0, 1.0]])) == pytest.approx(1 / 3)


def test_divergence_is_that_of_independent_answers_and_finite_for_certain_ones() -> None:
    outputs, teacher = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    yes = torch.stack([F.logsigmoid(teacher), F.logsigmoid(-teacher)])
    got = torch.stack([F.logsigmoid(outputs), F.logsigmoid(-outputs)])
    expected = F.kl_div(got, yes, log_target=True, reduction="sum") / 5
    assert float(TASK.divergence(outputs, teacher)) == pytest.approx(float(expected), rel=1e-5)
    assert torch.isfinite(TASK.divergence(torch.full((1, 2), 200.0), torch.full((1, 2), -200.0)))
