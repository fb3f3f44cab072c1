"""Exponential natural evolution strategies: Glasmachers, Schaul, Sun, Wierstra and Schmidhuber, GECCO 2010."""

from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
from scipy.linalg import expm

Vector = np.ndarray[Any, Any]


def minimise(
    loss: Callable[[Vector], float],
    start: Vector,
    evaluations: int,
    seed: int,
    done: Callable[[], object] = lambda: None,
) -> Vector:
    """The best point seen. start: [d], where the search begins with variance 1. done: called after each evaluation."""
    random, size = np.random.default_rng(seed), len(start)
    population = 4 + int(3 * log(size))
    utilities = np.maximum(0.0, log(population / 2 + 1) - np.log(np.arange(1, population + 1)))
    utilities = utilities / utilities.sum() - 1 / population
    rate = 0.6 * (3 + log(size)) / (size * sqrt(size))
    mean, spread, best, least = start.copy(), np.eye(size), start, np.inf
    while evaluations > 0:
        count = min(population, evaluations)
        samples = random.standard_normal((count, size))
        points, losses = mean + samples @ spread.T, []
        for point in points:
            losses.append(loss(point))
            done()
        evaluations -= count
        order = np.argsort(losses)
        if losses[order[0]] < least:
            best, least = points[order[0]], losses[order[0]]
        if count < population:
            break
        ranked = samples[order]
        mean = mean + spread @ (utilities @ ranked)
        shape = (ranked.T * utilities) @ ranked - utilities.sum() * np.eye(size)
        spread = spread @ expm(0.5 * rate * shape)
    return best
