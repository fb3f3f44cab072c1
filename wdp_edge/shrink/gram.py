"""Moments of many samples: float32 products by chunks, float64 sums, and the ridge regression that follows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_BLOCK = 256  # columns: narrower products take longer than the half that is saved


class Moments:
    """First and second moments of inputs z: [M, K] and targets t: [M, D], in float64 over any number of batches.

    tt: sum of the squares of all targets.
    """

    def __init__(self, inputs: int, targets: int) -> None:
        self.count = 0
        self.z = torch.zeros(inputs, dtype=torch.float64)
        self.t = torch.zeros(targets, dtype=torch.float64)
        self.tt = 0.0
        self._upper = torch.zeros(inputs, inputs, dtype=torch.float64)
        self.zt = torch.zeros(inputs, targets, dtype=torch.float64)

    def add(self, z: Tensor, t: Tensor | None = None) -> None:
        """z: [..., K], t: [..., D] (None where only the inputs' moments are wanted)."""
        z = z.reshape(-1, z.shape[-1]).float()
        self.count += len(z)
        self.z += z.sum(0)
        for start in range(0, z.shape[1], _BLOCK):
            rows = slice(start, start + _BLOCK)
            self._upper[rows, start:] += z[:, rows].T @ z[:, start:]
        if t is not None:
            t = t.reshape(-1, t.shape[-1]).float()
            self.t += t.sum(0)
            self.tt += float(t.square().sum())
            self.zt += z.T @ t

    @property
    def zz(self) -> Tensor:
        """Sum of the products of every two inputs: [K, K] float64."""
        return self._upper.triu() + self._upper.triu(1).T

    def covariance(self) -> Tensor:
        """Centred second moment of the inputs: [K, K] float64."""
        mean = self.z / self.count
        return self.zz / self.count - torch.outer(mean, mean)

    def cross(self) -> Tensor:
        """Centred product of inputs and targets: [K, D] float64."""
        return self.zt / self.count - torch.outer(self.z / self.count, self.t / self.count)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Weight [D, K] and bias [D], float32, of the affine map z -> t with the least squared error.

        ridge: relative to the mean variance of the inputs; the bias is not penalised.
        """
        mean_z, mean_t = self.z / self.count, self.t / self.count
        covariance = damped(self.covariance(), ridge)
        weight = torch.linalg.solve(covariance, self.cross()).T
        return weight.float(), (mean_t - weight @ mean_z).float()

    def best_ridge(self, ridges: Sequence[float]) -> float:
        """The one of these with which `solve` is nearest to its targets on other samples, by generalised
        cross-validation (Golub, Heath and Wahba, Technometrics 1979): the larger, the fewer samples there are.
        """
        covariance = self.covariance()
        variances, axes = torch.linalg.eigh(covariance)
        variances = variances.clamp_min(0)
        explained = (axes.T @ self.cross()).square().sum(1)
        total = self.tt / self.count - float((self.t / self.count).square().sum())

        def error(ridge: float) -> float:
            level = ridge * covariance.diagonal().mean().clamp_min(1e-12)
            free = 1.0 - (1.0 + float((variances / (variances + level)).sum())) / self.count
            if free <= 0:
                return float("inf")
            left = total - float((explained * (variances + 2 * level) / (variances + level).square()).sum())
            return max(left, 0.0) / free**2

        return min(sorted(ridges, reverse=True), key=error)

    def solve_linear(self, ridge: float) -> Tensor:
        """Weight [D, K], float32, of the same map without a bias."""
        return torch.linalg.solve(damped(self.zz / self.count, ridge), self.zt / self.count).T.float()


class HeadMoments:
    """First and second moments of each head's channels, none across heads: [heads, d] and [heads, d, d] float64."""

    def __init__(self, heads: int, channels: int) -> None:
        self.count = 0
        self.z = torch.zeros(heads, channels, dtype=torch.float64)
        self.zz = torch.zeros(heads, channels, channels, dtype=torch.float64)

    def add(self, z: Tensor) -> None:
        """z: [..., heads, d]."""
        z = z.reshape(-1, *self.z.shape).float().transpose(0, 1)
        self.count += z.shape[1]
        self.z += z.sum(1)
        self.zz += z.mT @ z

    def squares(self) -> Tensor:
        """Second moments: [heads, d, d] float64."""
        return self.zz / self.count

    def covariances(self) -> Tensor:
        """Centred second moments: [heads, d, d] float64."""
        mean = self.z / self.count
        return self.squares() - mean[:, :, None] * mean[:, None, :]


def damped(covariance: Tensor, ridge: float) -> Tensor:
    """covariance + ridge * mean(diagonal) * identity: [K, K] float64."""
    level = covariance.diagonal().mean().clamp_min(1e-12)
    return covariance + ridge * level * torch.eye(len(covariance), dtype=covariance.dtype)
