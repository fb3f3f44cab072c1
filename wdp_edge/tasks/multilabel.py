"""Any number of labels per image: logits, binary cross entropy, mean average precision over classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, float32, promote_types

from wdp_edge.runs.drops import Drops
from wdp_edge.tasks.by_class import Floats, average_precision, resampled_drops
from wdp_edge.tasks.classify import PROBE_TEMPERATURE
from wdp_edge.tasks.kinds import MULTILABEL


class MultiLabel:
    """`wdp_edge.protocols.task.Task` for multi-label classification.

    Outputs: logits [n, K]; labels: [n, K] ones and zeros. A class is found where its
    probability, the logit's sigmoid, is above one half.
    """

    facts = MULTILABEL

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """KL divergence of the class probabilities, in nats: the sum over classes, each a yes or no of its own.

        With a temperature T: T² times that of softened predictions, as in `classify.distillation`.
        """
        got, wanted = (x.to(promote_types(x.dtype, float32)) / temperature for x in (outputs, teacher))
        yes = wanted.sigmoid()
        # log p = logsigmoid(x) and log(1 - p) = logsigmoid(-x) stay exact where p is 0 or 1 in float32.
        gain = yes * (F.logsigmoid(wanted) - F.logsigmoid(got))
        gain = gain + (1 - yes) * (F.logsigmoid(-wanted) - F.logsigmoid(-got))
        return gain.sum(-1).mean() * temperature**2

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """share · divergence + (1 - share) · binary cross entropy, summed over classes like the divergence."""
        distilled = self.divergence(outputs, teacher, temperature)
        entropy = F.binary_cross_entropy_with_logits(outputs.float(), labels, reduction="none").sum(-1).mean()
        return share * distilled + (1 - share) * entropy, distilled.detach()

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        """Binary cross entropy with labels drawn from the model's own softened predictions."""
        logits = outputs / PROBE_TEMPERATURE
        drawn = torch.bernoulli(logits.detach().sigmoid(), generator=generator)
        return F.binary_cross_entropy_with_logits(logits, drawn, reduction="sum")

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        """Classes that both find as a share of those that either finds, mean over images; 1 where neither finds any.

        Not the share of images with the very same classes: with many classes hardly an image is free of one near one
        half. Nor the share of single answers alike: most of these are a certain no.
        """
        after = outputs > 0
        before = torch.where(reference.abs() <= unsure, after, reference > 0) if unsure > 0 else reference > 0
        common, either = (before & after).sum(-1), (before | after).sum(-1)
        return float(torch.where(either > 0, common / either.clamp_min(1), 1.0).mean())

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        """mAP: mean average precision over the classes that some image shows, NaN where none shows any.

        F1: of each image's classes, mean.

        F1 is 1 for an image that shows nothing and in which nothing is found. By scikit-learn, where images of equal
        score, of which 8-bit outputs have many, count together and not in their order.
        """
        from sklearn.metrics import average_precision_score, f1_score

        shown, scores = labels.bool().numpy(), outputs.float().numpy()
        columns = [k for k in range(shown.shape[1]) if shown[:, k].any()]
        precisions = [average_precision_score(shown[:, k], scores[:, k]) for k in columns]
        f1 = f1_score(shown, scores > 0, average="samples", zero_division=1.0)
        return {self.facts.metric: fmean(precisions) if precisions else math.nan, "F1": float(f1)}

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        shown = labels.bool().numpy()
        scores = [outputs.double().numpy() for outputs in (dense, shipped)]

        def measure(weights: Floats) -> tuple[Floats, Floats]:
            before, after = (
                np.stack([average_precision(found[:, k], shown[:, k], weights) for k in range(shown.shape[1])], 1)
                for found in scores
            )
            return before, after

        return resampled_drops(measure, shown.sum(0), len(shown), names, "average precision")


TASK = MultiLabel()
