"""Embeddings without labels: whatever is built on the dense model's goes on working with the small one's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import image_drops
from wdp_edge.tasks.kinds import FEATURES
from wdp_edge.tasks.similarity import mean_cosine, same_neighbour


class Features:
    """`wdp_edge.protocols.task.Task` for embeddings. Outputs: what the model's head would read, [n, D]."""

    facts = FEATURES

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Half the squared error, as a share of the variance of the dense model's embeddings over these images.

        Not of their length: what all images share carries no information, and is most of some models' embeddings.
        """
        outputs, teacher = outputs.float(), teacher.float()
        return (outputs - teacher).square().sum(-1).mean() / (2 * variance(teacher))

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """The divergence; labels are not read."""
        distilled = self.divergence(outputs, teacher)
        return distilled, distilled.detach()

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        """A random direction times the embedding, in units of the embeddings' spread: the diagonal of JᵀJ."""
        direction = torch.randn(outputs.shape, generator=generator)
        return (outputs * direction).sum() / variance(outputs.detach()).sqrt()

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        return same_neighbour(reference, outputs, unsure)

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        assert dense is not None, "the metric of this task compares with the dense model"
        return {self.facts.metric: mean_cosine(outputs, dense)}

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        """For images, which have no classes here: how far their cosines with the dense embeddings are below 1."""
        cosines = F.cosine_similarity(shipped.double(), dense.double()).clamp(0, 1)
        return image_drops(cosines.numpy(), names, "cosine")


def variance(embeddings: Tensor) -> Tensor:
    """Over the images, summed over channels: []. At least a hundredth of their mean squared length, for few images."""
    spread = (embeddings - embeddings.mean(0)).square().sum(-1).mean()
    return spread.clamp_min(1e-2 * embeddings.square().sum(-1).mean()).clamp_min(1e-12)


TASK = Features()
