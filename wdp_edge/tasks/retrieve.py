"""Embeddings of length 1 for search: images of one label stand near each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import paired_drops
from wdp_edge.tasks.kinds import RETRIEVE
from wdp_edge.tasks.similarity import contrastive, first_hits, neighbour_divergence, retrieval, same_neighbour

TEMPERATURE = 0.1


class Retrieve:
    """`wdp_edge.protocols.task.Task` for retrieval. Outputs: embeddings of length 1, [n, D]."""

    facts = RETRIEVE

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """What changed in who is near whom, and how far each embedding went from the dense one (1 - cosine).

        The second keeps an index usable that was built with the dense model.
        """
        away = 1 - F.cosine_similarity(outputs.float(), teacher.float()).mean()
        return neighbour_divergence(outputs, teacher, TEMPERATURE) + away

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """share · divergence + (1 - share) · supervised contrastive loss."""
        distilled = self.divergence(outputs, teacher)
        return share * distilled + (1 - share) * contrastive(outputs, labels, TEMPERATURE), distilled.detach()

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        """A random direction times the embedding: the diagonal of JᵀJ, as 1 - cosine is half a squared distance."""
        return (outputs * torch.randn(outputs.shape, generator=generator)).sum()

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        return same_neighbour(reference, outputs, unsure)

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        return retrieval(outputs, labels)

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        """For the queries of each class: whether the nearest other image is of their class."""
        queries = (labels.bincount()[labels] > 1).numpy()
        before, after = (first_hits(outputs, labels).numpy()[queries] for outputs in (dense, shipped))
        return paired_drops(before, after, labels.numpy()[queries], names, self.facts.metric)


TASK = Retrieve()
