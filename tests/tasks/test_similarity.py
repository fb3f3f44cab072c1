"""tasks/similarity.py against what it says, written out image by image."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wdp_edge.errors import InputError
from wdp_edge.protocols.task import defined, facts_of, get_task
from wdp_edge.tasks import similarity
from wdp_edge.tasks.similarity import contrastive, mean_cosine, nearest, neighbour_divergence, retrieval, same_neighbour


def embeddings(images: int, width: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(images, width, generator=torch.Generator().manual_seed(seed))


def ranked(x: Tensor, image: int) -> list[int]:
    """All other images, nearest first."""
    cosines = torch.cosine_similarity(x[image : image + 1], x)
    return sorted((i for i in range(len(x)) if i != image), key=lambda i: -float(cosines[i]))


def slow_retrieval(x: Tensor, labels: list[int]) -> dict[str, float]:
    recalls: dict[str, list[float]] = {"Recall@1": [], "Recall@5": [], "mAP": []}
    for image, label in enumerate(labels):
        hits = [labels[other] == label for other in ranked(x, image)]
        if not any(hits):
            continue
        recalls["Recall@1"].append(float(hits[0]))
        recalls["Recall@5"].append(float(any(hits[:5])))
        precisions = [sum(hits[: n + 1]) / (n + 1) for n, hit in enumerate(hits) if hit]
        recalls["mAP"].append(sum(precisions) / len(precisions))
    return {name: sum(v) / len(v) if v else math.nan for name, v in recalls.items()}


@given(st.lists(st.integers(0, 3), min_size=2, max_size=24), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_retrieval_is_what_it_says(labels: list[int], seed: int) -> None:
    x = embeddings(len(labels), seed=seed)
    found = retrieval(x, torch.tensor(labels))
    assert found == pytest.approx(slow_retrieval(x, labels), abs=1e-6, nan_ok=True)


def test_retrieval_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = embeddings(23), torch.arange(23) % 4
    whole = retrieval(x, labels)
    monkeypatch.setattr(similarity, "_ROWS", 5)
    assert retrieval(x, labels) == pytest.approx(whole, abs=1e-6)
    assert torch.equal(nearest(x, 2), torch.tensor([ranked(x, i)[:2] for i in range(23)]))


def test_classes_apart_are_found_and_one_place_for_all_is_not() -> None:
    labels = torch.arange(40) % 4
    apart = torch.eye(4)[labels] + 0.01 * embeddings(40, 4)
    assert retrieval(apart, labels) == {"Recall@1": 1.0, "Recall@5": 1.0, "mAP": pytest.approx(1.0)}
    same_place = retrieval(torch.ones(40, 4), labels)
    assert same_place["Recall@1"] < 0.5 and same_place["mAP"] < 0.5


def test_neighbours_survive_scale_and_rounding_but_not_a_shuffle() -> None:
    x = embeddings(60)
    assert same_neighbour(x, 3 * x) == 1.0
    assert same_neighbour(x, x + 1e-3 * embeddings(60, seed=1)) > 0.95
    assert same_neighbour(x, embeddings(60, seed=2)) < 0.4
    assert same_neighbour(x[:1], x[:1]) == 1.0


def test_mean_cosine() -> None:
    x = embeddings(20)
    assert mean_cosine(2 * x, x) == pytest.approx(1.0)
    assert mean_cosine(-x, x) == 0.0


def test_neighbour_divergence_sees_similarities_only(monkeypatch: pytest.MonkeyPatch) -> None:
    x = embeddings(17)
    turned = x @ torch.linalg.qr(embeddings(6, seed=4))[0]
    assert float(neighbour_divergence(turned, x, 0.1)) == pytest.approx(0.0, abs=1e-5)
    other = embeddings(17, seed=5).requires_grad_(True)
    loss = neighbour_divergence(other, x, 0.1)
    wanted = 0.0
    for image in range(17):
        rows = [torch.cosine_similarity(v[image : image + 1], v) / 0.1 for v in (x, other.detach())]
        p, q = (torch.cat([r[:image], r[image + 1 :]]).log_softmax(0) for r in rows)
        wanted += float((p.exp() * (p - q)).sum()) / 17
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-4)
    loss.backward()
    assert other.grad is not None and other.grad.abs().sum() > 0
    monkeypatch.setattr(similarity, "_ROWS", 4)
    assert float(neighbour_divergence(other, x, 0.1)) == pytest.approx(wanted, rel=1e-4)
    assert float(neighbour_divergence(x[:1], x[:1], 0.1)) == 0.0


def test_contrastive_pulls_a_label_together() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    x = embeddings(5).requires_grad_(True)
    before = contrastive(x, labels, 0.1)
    before.backward()
    assert x.grad is not None
    with torch.no_grad():
        after = contrastive(x - 0.01 * x.grad, labels, 0.1)
    assert float(after) < float(before)
    assert float(contrastive(x, torch.arange(5), 0.1)) == 0.0  # nobody has a partner


def test_a_figure_over_nothing_is_none() -> None:
    """No image has another of its class; no image has a label; no mask has a pixel of a class."""
    for name, outputs, labels in (
        ("retrieve", torch.eye(4), torch.arange(4)),
        ("multilabel", torch.eye(4), torch.zeros(4, 4)),
        ("segment", torch.zeros(2, 3, 4, 4), torch.full((2, 8, 8), 255, dtype=torch.uint8)),
    ):
        metric = facts_of(name).metric
        value = get_task(name).metrics(outputs, labels, None)[metric]
        assert math.isnan(value)
        with pytest.raises(InputError, match=f"{metric} is not defined on these"):
            defined(value, metric, "these")
    assert defined(0.5, "mAP", "these") == 0.5
