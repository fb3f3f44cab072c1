"""From timed models to a latency table: least squares over structures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wdp_edge.structure import Structure

Array = NDArray[np.float64]
_ANCHOR_WEIGHT = 4.0
_CONTEXT_RANGE = (0.7, 1.6)
_CONTEXT_PRIOR = 0.05


@dataclass(frozen=True)
class Observation:
    """A timed model. whole: it has full depth, so its blocks cost what they will cost in a shipped model."""

    structure: Structure
    ms: float
    whole: bool


@dataclass(frozen=True)
class Fit:
    """fixed: outside the blocks; attention, mlp: ms of one block at the grid's widths.

    context: how much dearer a block is in a whole model than in a short chain, whose weights fit the caches.
    error: root mean square of the relative residuals.
    """

    fixed: float
    attention: Array
    mlp: Array
    context: float
    error: float


def fit_table(observations: Sequence[Observation], heads: Sequence[int], hidden: Sequence[int]) -> Fit:
    """Splits measured latencies into a fixed part and the cost of attention and MLP at the grids' widths.

    Model: ms = fixed + k · Σ over blocks (attention(heads) + mlp(hidden)), k = 1 for whole models and
    1/context for chains; both functions linear between grid points. Residuals are relative; whole models weigh
    more.
    For a given context this is linear; the context itself is found by a bounded search around 1.
    """
    from scipy.optimize import minimize_scalar

    def cost(context: float) -> float:
        return solve(observations, heads, hidden, context)[1] + (_CONTEXT_PRIOR * (context - 1)) ** 2

    best = float(minimize_scalar(cost, bounds=_CONTEXT_RANGE, method="bounded").x)
    theta, squares = solve(observations, heads, hidden, best)
    attention, mlp = theta[1 : 1 + len(heads)], theta[1 + len(heads) :]
    attention, mlp = share_overhead(attention, mlp, heads, hidden)
    error = float(np.sqrt(squares / len(observations)))
    return Fit(float(theta[0]), rising(attention), rising(mlp), best, error)


def solve(
    observations: Sequence[Observation], heads: Sequence[int], hidden: Sequence[int], context: float
) -> tuple[Array, float]:
    """The unknowns [fixed, attention…, mlp…], none below zero, and the weighted sum of squared residuals."""
    from scipy.optimize import nnls

    rows = [row(o.structure, heads, hidden, 1.0 if o.whole else 1.0 / context) for o in observations]
    times = np.array([o.ms for o in observations])
    weights = np.array([_ANCHOR_WEIGHT if o.whole else 1.0 for o in observations]) / times
    theta, residual = nnls(np.array(rows) * weights[:, None], times * weights)
    return theta, float(residual**2)


def row(structure: Structure, heads: Sequence[int], hidden: Sequence[int], factor: float) -> Array:
    """How often each unknown enters a model's latency."""
    attention = sum(shares(heads, b.heads) for b in structure.blocks)
    mlp = sum(shares(hidden, b.hidden) for b in structure.blocks)
    return np.concatenate([[1.0], factor * attention, factor * mlp])


def shares(grid: Sequence[int], width: int) -> Array:
    """Weights of the grid's points in linear interpolation at `width`; sums to 1."""
    return np.array([np.interp(width, grid, np.eye(len(grid))[i]) for i in range(len(grid))])


def share_overhead(attention: Array, mlp: Array, heads: Sequence[int], hidden: Sequence[int]) -> tuple[Array, Array]:
    """Every block has both sub-layers, so only their sum is seen: what does not depend on width is halved."""
    over_attention, over_mlp = intercept(heads, attention), intercept(hidden, mlp)
    shift = (over_mlp - over_attention) / 2
    shift = min(max(shift, -float(attention.min())), float(mlp.min()))
    return attention + shift, mlp - shift


def intercept(widths: Sequence[int], ms: Array) -> float:
    """Milliseconds at width zero, by a straight line through the points."""
    if len(widths) < 2:
        return 0.0
    return float(np.polyfit(np.asarray(widths, dtype=float), ms, 1)[1])


def rising(ms: Array) -> Array:
    """The nearest sequence (least squares) that never falls: a wider layer is never the cheaper one."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(ms).x, dtype=float)
