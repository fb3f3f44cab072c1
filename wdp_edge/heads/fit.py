"""A linear classifier on given features, by logistic regression; how strongly it is held down is chosen by images held
back.

Not ridge regression, though that has a closed form: its outputs are no log-probabilities, and distillation, selection
and every divergence here read a classifier's logits as such. A convex problem has one solution whatever the start, and
L-BFGS (Liu and Nocedal, 1989; scipy's) needs only sums over images, which are taken in chunks: time grows with images
times features times classes, for many labels per image as for one. scikit-learn's own classifier, which the tests hold
this to, keeps a value for every image and class several times over, 5 GB each for ImageNet; it fits one label at a
time, and leaves out classes that no image has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wdp_edge import progress

STRENGTHS = tuple(10 ** (-step / 2) for step in range(13))
"""Tried in this order, from 1 to a millionth, each from the solution of the one before."""
_WORSE = 2  # in a row: what is held down still less overfits still more
_BIASES = 0.01  # images
_STEPS = 200
_CHUNK = 8192  # images


@dataclass(frozen=True)
class Linear:
    """weight: [K, F], bias: [K], float32; for features as they come."""

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """[n, F] -> [n, K] logits."""
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True)
class Tried:
    """strength: of the penalty. loss: on the images held back, per image, in nats."""

    strength: float
    loss: float


@dataclass(frozen=True)
class FittedHead:
    """head: fitted to all images. blind: of the same strength, without the images held back. tried: in their order."""

    head: Linear
    blind: Linear
    strength: float
    tried: tuple[Tried, ...]


def fit(features: Tensor, labels: Tensor, classes: int, learn: Sequence[int], held: Sequence[int]) -> FittedHead:
    """Chooses the strength by the loss on the images held back, then fits to all images.

    features: [n, F] float32; they are standardised, and that is folded into the weights. labels: [n] int64, or [n, K]
    float32 of ones and zeros. learn, held: indices, all images together.

    Minimised is the mean over images of the cross entropy (binary, summed over classes, for several labels) plus half
    of strength · |W|². With all images the strength is the chosen one times the share that was learned from, so that
    the penalty against the sum of losses, a prior, stays the same. A bias is held near the log odds of its class, by
    the weight of a hundredth of an image: a class without images, or in all of them, has a finite one.
    """
    spread, mean = torch.std_mean(features, 0)
    spread = torch.where(spread > 1e-6 * spread.max(), spread, torch.inf)  # a feature that is always the same
    standard = (features - mean) / spread
    part, rest = (_Problem.of(standard, labels, classes, torch.tensor(rows)) for rows in (learn, held))
    solution, best, worse = part.start, (Tried(0.0, np.inf), part.start), 0
    tried: list[Tried] = []
    with progress.task("fit the head", len(STRENGTHS) + 1) as advance:
        for strength in STRENGTHS:
            solution = part.solved(solution, strength)
            tried.append(Tried(strength, rest.loss(solution)[0]))
            advance(1)
            better = tried[-1].loss < best[0].loss
            best, worse = ((tried[-1], solution), 0) if better else (best, worse + 1)
            if worse == _WORSE:
                break
        chosen, solution = best
        whole = _Problem.of(standard, labels, classes, torch.arange(len(features)))
        final = whole.solved(solution - part.start + whole.start, chosen.strength * len(learn) / len(features))
        advance(1 + len(STRENGTHS) - len(tried))
    return FittedHead(_folded(final, mean, spread), _folded(solution, mean, spread), chosen.strength, tuple(tried))


def _folded(solution: Tensor, mean: Tensor, spread: Tensor) -> Linear:
    weight = solution[:, :-1] / spread.double()
    return Linear(weight.float(), (solution[:, -1] - weight @ mean.double()).float())


@dataclass(frozen=True)
class _Problem:
    """The loss on some images. A solution is [K, F + 1] float64, biases last; start: one without weights.

    features, labels: of all images; rows: [n] int64, of these.
    """

    features: Tensor
    labels: Tensor
    rows: Tensor
    start: Tensor

    @classmethod
    def of(cls, features: Tensor, labels: Tensor, classes: int, rows: Tensor) -> _Problem:
        """The start's biases are the log odds of the classes, or log frequencies, with half an image more of each."""
        start = torch.zeros(classes, features.shape[1] + 1, dtype=torch.float64)
        if labels.ndim == 1:
            share = (torch.bincount(labels[rows], minlength=classes) + 0.5) / (len(rows) + 0.5 * classes)
            start[:, -1] = share.double().log()
        else:
            start[:, -1] = ((labels[rows].double().sum(0) + 0.5) / (len(rows) + 1)).logit()
        return cls(features, labels, rows, start)

    def solved(self, solution: Tensor, strength: float) -> Tensor:
        """The minimum with this penalty, sought from `solution` on."""
        from scipy.optimize import minimize

        weights = torch.full_like(self.start, strength)
        weights[:, -1] = _BIASES / len(self.rows)
        centre = torch.zeros_like(self.start)
        centre[:, -1] = self.start[:, -1]

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            at = torch.from_numpy(flat.reshape(self.start.shape))
            loss, slope = self.loss(at)
            pull = weights * (at - centre)
            return loss + 0.5 * float((pull * (at - centre)).sum()), (slope + pull).numpy().ravel()

        options = {"maxiter": _STEPS, "ftol": 1e-9, "gtol": 1e-6}
        found: Any = minimize(objective, solution.numpy().ravel(), jac=True, method="L-BFGS-B", options=options)
        return torch.from_numpy(found.x.reshape(self.start.shape))

    def loss(self, solution: Tensor) -> tuple[float, Tensor]:
        """Mean over the images, and its gradient: [K, F + 1]."""
        weight, bias = solution[:, :-1].float(), solution[:, -1].float()
        total, slope = 0.0, torch.zeros_like(solution)
        for rows in self.rows.split(_CHUNK):
            seen, labels = self.features[rows], self.labels[rows]
            logits = F.linear(seen, weight, bias)
            if labels.ndim == 1:
                total += float(F.cross_entropy(logits, labels, reduction="none").double().sum())
                excess = logits.softmax(1) - F.one_hot(labels, len(bias))
            else:
                total += float(F.binary_cross_entropy_with_logits(logits, labels, reduction="none").double().sum())
                excess = logits.sigmoid() - labels
            slope[:, :-1] += excess.T @ seen
            slope[:, -1] += excess.sum(0)
        return total / len(self.rows), slope / len(self.rows)
