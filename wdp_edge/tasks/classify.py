"""One label per image: logits, cross entropy, accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Generator, Tensor, float32, multinomial, promote_types

from wdp_edge.artifacts.parity import accuracy, same_class
from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import paired_drops
from wdp_edge.tasks.kinds import CLASSIFY

PROBE_TEMPERATURE = 2.0


class Classify:
    """`wdp_edge.protocols.task.Task` for single-label classification. Outputs: logits [n, classes]."""

    facts = CLASSIFY

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """KL divergence of the class probabilities, in nats; see `distillation`."""
        return distillation(outputs, teacher, temperature)

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """share · distillation + (1 - share) · cross entropy."""
        distilled = self.divergence(outputs, teacher, temperature)
        return share * distilled + (1 - share) * F.cross_entropy(outputs.float(), labels), distilled.detach()

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        """Cross entropy with labels drawn from the model's own softened predictions."""
        logits = outputs / PROBE_TEMPERATURE
        drawn = multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
        return F.cross_entropy(logits, drawn, reduction="sum")

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        return same_class(reference, outputs, unsure)

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        return {self.facts.metric: accuracy(outputs, labels)}

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        before, after = ((outputs.argmax(1) == labels).numpy() for outputs in (dense, shipped))
        return paired_drops(before, after, labels.numpy(), names, self.facts.metric)


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ logits) of softened predictions, mean over images (Hinton et al. 2015).

    logits, teacher: [B, classes] float32 -> []; float64 where rounding errors would hide the difference: for nearly
    equal predictions they make a float32 sum negative.
    """
    wanted = F.log_softmax(teacher / temperature, -1)
    got = F.log_softmax(logits.to(promote_types(logits.dtype, float32)) / temperature, -1)
    return F.kl_div(got, wanted, log_target=True, reduction="batchmean") * temperature**2


TASK = Classify()
