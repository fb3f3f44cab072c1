"""A classifier with images that nothing gives a class: the dense model's answers are what must not change."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Generator, Tensor

from wdp_edge.artifacts.parity import same_class
from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import answer_drops
from wdp_edge.tasks.classify import TASK as CLASSIFY
from wdp_edge.tasks.kinds import CLASSIFY_UNLABELLED


class ClassifyUnlabelled:
    """`wdp_edge.protocols.task.Task` for single-label classification without labels. Outputs: logits [n, classes]."""

    facts = CLASSIFY_UNLABELLED

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        return CLASSIFY.divergence(outputs, teacher, temperature)

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Distillation alone; neither labels nor share are read."""
        distilled = self.divergence(outputs, teacher, temperature)
        return distilled, distilled.detach()

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        return CLASSIFY.probe(outputs, generator)

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        return same_class(reference, outputs, unsure)

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        assert dense is not None, "the metric of this task compares with the dense model"
        return {self.facts.metric: same_class(dense, outputs)}

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        """By the dense model's answers: which of its classes keep them."""
        answers = dense.argmax(1)
        return answer_drops((shipped.argmax(1) == answers).numpy(), answers.numpy(), names, self.facts.metric)


TASK = ClassifyUnlabelled()
