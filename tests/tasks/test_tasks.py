"""What every task promises, on outputs of its kind."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wdp_edge.protocols.task import Labels, Output, Task, get_task, task_names
from wdp_edge.tasks.classify import PROBE_TEMPERATURE

ONE = torch.arange(24) % 4
MASKS = (torch.arange(24)[:, None, None] + torch.arange(4)[:, None] * torch.arange(6)).to(torch.uint8) % 4
SEVERAL = torch.stack([(torch.arange(24) + 3 * k) % 4 < 2 for k in range(8)], 1).float()


def outputs_of(task: Task, seed: int = 0) -> Tensor:
    """[24, 8]: logits, embeddings with a part that all share, or those at length 1; maps are [24, 8, 2, 3]."""
    shape = (24, 8, 2, 3) if task.facts.output is Output.MAP else (24, 8)
    found = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.5
    return F.normalize(found, dim=-1) if task.facts.output is Output.UNIT else found


def labels_of(task: Task) -> Tensor:
    return {Labels.MANY: SEVERAL, Labels.MASK: MASKS}.get(task.facts.labels, ONE)


@pytest.mark.parametrize("name", task_names())
def test_divergence_is_nothing_for_the_same_and_grows_with_the_distance(name: str) -> None:
    task: Task = get_task(name)
    teacher, noise = outputs_of(task), outputs_of(task, 1)
    found = [float(task.divergence(teacher + by * noise, teacher)) for by in (0.0, 0.1, 0.3)]
    assert found[0] == pytest.approx(0.0, abs=1e-5)
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("name", task_names())
def test_one_image_is_enough(name: str) -> None:
    task: Task = get_task(name)
    teacher, outputs = outputs_of(task)[:1], outputs_of(task, 1)[:1]
    assert 0 <= float(task.loss(outputs, teacher, labels_of(task)[:1], 0.7, 2.0)[0]) < 200
    assert torch.isfinite(task.probe(outputs, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", task_names())
def test_a_step_against_the_gradient_lowers_the_loss(name: str) -> None:
    task: Task = get_task(name)
    teacher, outputs = outputs_of(task), outputs_of(task, 1).requires_grad_(True)
    loss, distilled = task.loss(outputs, teacher, labels_of(task), 0.7, 2.0)
    loss.backward()
    assert outputs.grad is not None and not distilled.requires_grad
    assert float(distilled) == pytest.approx(float(task.divergence(outputs, teacher, 2.0)))
    with torch.no_grad():
        assert float(task.loss(outputs - 0.1 * outputs.grad, teacher, labels_of(task), 0.7, 2.0)[0]) < float(loss)


@pytest.mark.parametrize("name", task_names())
def test_labels_count_where_the_task_has_them(name: str) -> None:
    task: Task = get_task(name)
    teacher, outputs = outputs_of(task), outputs_of(task, 1)
    labels = labels_of(task)
    losses = [float(task.loss(outputs, teacher, other, 0.5, 2.0)[0]) for other in (labels, labels.flip(0) // 2)]
    assert (losses[0] != losses[1]) == (task.facts.labels is not Labels.NONE)


@pytest.mark.parametrize("name", task_names())
def test_metrics_are_shares_and_name_the_task_s_first(name: str) -> None:
    task: Task = get_task(name)
    outputs, dense = outputs_of(task, 1), outputs_of(task)
    labels = labels_of(task)
    found = task.metrics(outputs, labels, dense)
    assert next(iter(found)) == task.facts.metric
    assert all(0 <= value <= 1 for value in found.values())
    if task.facts.relative:
        assert task.metrics(dense, labels, dense)[task.facts.metric] == pytest.approx(1.0)
    assert task.agreement(dense, dense) == 1.0


@pytest.mark.parametrize("name", task_names())
def test_small_changes_cost_what_the_probe_says(name: str) -> None:
    """Half the mean squared gradient times the squared change is the divergence it makes, for small ones."""
    task: Task = get_task(name)
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(outputs_of(task).shape, generator=generator)
    temperature = PROBE_TEMPERATURE if task.facts.output.of_classes else 1.0

    def output(x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if task.facts.output is Output.UNIT else x

    information = torch.zeros_like(latent)
    for _ in range(800):
        x = latent.clone().requires_grad_(True)
        task.probe(output(x), generator).backward()
        assert x.grad is not None
        information += x.grad.square() / 800
    costs, expected = [], []
    for channel in range(8):
        moved = latent.clone()
        moved[:, channel] += 0.02
        # A probe sees how far each embedding goes, not who its neighbours are, which retrieval also looks at.
        away = task.divergence(output(moved), output(latent), temperature) / temperature**2
        if name == "retrieve":
            away = 1 - F.cosine_similarity(output(moved), output(latent)).mean()
        costs.append(float(away))
        expected.append(float(information[:, channel].sum()) / 24 * 0.02**2 / 2)
    assert costs == pytest.approx(expected, rel=0.15)
