"""Neighbours among embeddings. Similarity is the cosine; no image is its own neighbour."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

NEAREST = 5
_ROWS = 256


def mean_cosine(outputs: Tensor, dense: Tensor) -> float:
    """Mean over images of the cosine between two embeddings, [n, D] each; 0 where it points away."""
    return max(0.0, float(F.cosine_similarity(outputs.float(), dense.float()).mean()))


def similarities(embeddings: Tensor) -> Iterator[Tensor]:
    """Cosines of every image with every one, some rows at a time: [rows, n] float32; -inf with itself.

    embeddings: [n, D].
    """
    unit = F.normalize(embeddings.float(), dim=-1)
    for first in range(0, len(unit), _ROWS):
        part = unit[first : first + _ROWS]
        found = part @ unit.T
        found[torch.arange(len(part)), torch.arange(first, first + len(part))] = -torch.inf
        yield found


def nearest(embeddings: Tensor, count: int) -> Tensor:
    """The `count` nearest other images of each, nearest first: [n, count] int64, fewer where there are fewer."""
    count = min(count, len(embeddings) - 1)
    return torch.cat([s.topk(count, -1).indices for s in similarities(embeddings)])


def same_neighbour(reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
    """Share of images whose nearest other one by `outputs` is among the NEAREST nearest by `reference`: in [0, 1].

    Not the very nearest: images that are almost equally near change places with any rounding. So no answer of the
    reference is unsure, and `unsure` is not read.
    """
    if len(reference) < 2:
        return 1.0
    hits = nearest(outputs, 1) == nearest(reference, NEAREST)
    return float(hits.any(-1).float().mean())


def neighbour_divergence(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened similarities to all other images from the teacher's, mean over images: [], in nats.

    outputs, teacher: [n, D]. Distils who is near whom (as SEED and CompRess do), not where.
    """
    total = outputs.new_zeros(())
    for got, wanted in zip(_others(outputs), _others(teacher), strict=True):
        got, wanted = (F.log_softmax(s / temperature, -1) for s in (got, wanted))
        total = total + F.kl_div(got, wanted, log_target=True, reduction="sum")
    return total / len(outputs)


def contrastive(outputs: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020) over the images that have another of their label: [].

    outputs: [n, D]; labels: [n]. 0 where no image has.
    """
    unit = F.normalize(outputs.float(), dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    same = (labels[:, None] == labels) & ~itself
    chances = F.log_softmax((unit @ unit.T / temperature).masked_fill(itself, -torch.inf), -1)
    counts = same.sum(-1)
    per_image = -chances.masked_fill(~same, 0.0).sum(-1) / counts.clamp_min(1)
    return per_image.sum() / (counts > 0).sum().clamp_min(1)


def retrieval(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """Recall@1, Recall@5 and mAP, each image in turn against all others: leave one out.

    embeddings: [n, D]; labels: [n]. Recall@k: share of images with one of their label among the k nearest. mAP: mean
    over images of the average precision of the whole ranking. Images that are the only one of their label do not count;
    NaN where all are.
    """
    recalls: dict[int, list[Tensor]] = {1: [], 5: []}
    precisions: list[Tensor] = []
    first = 0
    for rows in similarities(embeddings):
        own = labels[first : first + len(rows)]
        first += len(rows)
        order = rows.argsort(stable=True, dim=-1, descending=True)[:, :-1]
        hits = (labels[order] == own[:, None]).float()
        hits = hits[hits.any(-1)]
        for k, found in recalls.items():
            found.append(hits[:, :k].any(-1).float())
        ranks = torch.arange(1, hits.shape[1] + 1)
        precisions.append((hits.cumsum(-1) / ranks * hits).sum(-1) / hits.sum(-1))
    figures = {f"Recall@{k}": _mean(found) for k, found in recalls.items()}
    return {**figures, "mAP": _mean(precisions)}


def first_hits(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Whether the nearest other image of each is of its label: [n] bool; of equally near ones the first counts.

    embeddings: [n, D]; labels: [n].
    """
    found = []
    for rows in similarities(embeddings):
        places = torch.arange(rows.shape[1]).expand_as(rows)
        found.append(places.masked_fill(rows != rows.max(-1, keepdim=True).values, len(labels)).min(-1).values)
    return labels[torch.cat(found)] == labels


def _others(embeddings: Tensor) -> Iterator[Tensor]:
    """`similarities` without the image itself: [rows, n - 1]; gradients pass."""
    count = len(embeddings)
    unit = F.normalize(embeddings.float(), dim=-1)
    for first in range(0, count, _ROWS):
        part = unit[first : first + _ROWS]
        places = torch.arange(count, device=unit.device)
        others = places[:-1] + (places[:-1] >= places[first : first + len(part), None])
        yield (part @ unit.T).gather(1, others)


def _mean(parts: list[Tensor]) -> float:
    values = torch.cat(parts)
    return float(values.mean()) if len(values) else math.nan
