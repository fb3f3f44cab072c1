"""From timed models to a latency table: least squares over structures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wdp_edge.cost.table import Last, Points, Scales, along
from wdp_edge.models.structure import Structure

Array = NDArray[np.float64]
_ROUNDS = 6
_FIRST = 2  # unknowns before those of the last block
# Shares of the dense model's sum at which the context may bend.
_KNOTS = (1 / 3, 1 / 2, 0.7, 1.0)


@dataclass(frozen=True)
class Observation:
    """A timed model. size: whether it is a whole model, the dense one or one of another size, and not a chain."""

    structure: Structure
    ms: float
    size: bool


@dataclass(frozen=True)
class Grid:
    """Widths at which attention and MLP are known, rising, and the channels of the heads there.

    scales: see `LatencyTable`. last: whether the table has a `last`.
    """

    heads: Sequence[float]
    hidden: Sequence[int]
    head_dim: int
    scales: Scales = ()
    last: bool = False


@dataclass(frozen=True)
class Fit:
    """fixed: outside the blocks; attention, mlp: ms of one block at the grid's widths; head: of one without channels.

    last: see `LatencyTable`. context: (sum of the parts, ms of the whole model), rising. error: root mean square of the
    relative residuals.
    """

    fixed: float
    attention: Array
    mlp: Array
    context: Points
    error: float
    head: float = 0.0
    last: Last | None = None


def fit_table(observations: Sequence[Observation], grid: Grid) -> Fit:
    """Splits measured latencies into a fixed part, the cost of attention and MLP by width, and the context.

    Model: ms = context(fixed + Σ over blocks (attention(heads) + mlp(hidden))), all three piecewise linear; heads of
    fewer channels count by their channels, and each has a cost besides. The context leaves the chains' sizes alone
    (which fixes the scale of the parts) and bends at a few sizes from there on. Given the context the rest is linear
    least squares on relative residuals, given the rest so is the context; a few rounds of both.
    """
    context: Points = ()
    chosen = [o for o in observations if not o.size] or list(observations)
    for _ in range(_ROUNDS):
        theta = solve(chosen, context, grid)
        context = read_context(theta, observations, grid)
        chosen = list(observations)
    fixed, head, *slopes = map(float, theta[: _FIRST + 2 * grid.last])
    attention, mlp = np.split(theta[len(slopes) + _FIRST :], [len(grid.heads)])
    predicted = np.array([along(context, part_sum(theta, o, grid)) for o in observations])
    residuals = predicted / np.array([o.ms for o in observations]) - 1
    error = float(np.sqrt(np.mean(residuals**2)))
    last = (slopes[0], slopes[1]) if slopes else None
    return Fit(fixed, rising(attention), rising(mlp), context, error, head, last)


def solve(observations: Sequence[Observation], context: Points, grid: Grid) -> Array:
    """The unknowns [fixed, head, (two of the last block,) attention…, mlp…], none below zero, for a given context."""
    from scipy.optimize import nnls

    inverse = tuple((y, x) for x, y in context)
    times = np.array([along(inverse, o.ms) for o in observations])
    rows = np.array([row(o.structure, grid) for o in observations])
    return np.asarray(nnls(rows / times[:, None], np.ones(len(times)))[0])


def read_context(theta: Array, observations: Sequence[Observation], grid: Grid) -> Points:
    """The rising line from sums to latencies that fits the whole models best; none of it below the chains' sums.

    Linear in the rises between the knots, which are kept positive.
    """
    from scipy.optimize import nnls

    sums = [part_sum(theta, o, grid) for o in observations]
    usual = max((x for x, o in zip(sums, observations, strict=True) if not o.size), default=0.0)
    whole = [(x, o.ms) for x, o in zip(sums, observations, strict=True) if o.size and x > usual]
    if not whole:
        return ()
    dense = max(x for x, _ in whole)
    knots = [usual] + [k * dense for k in _KNOTS if k * dense > 1.05 * usual]
    if len(knots) == 1:
        knots.append(dense)
    x, ms = (np.array(values) for values in zip(*whole, strict=True))
    # How far each model has climbed each step, beyond the last one too.
    climbed = np.stack([np.clip((x - a) / (b - a), 0, 1) for a, b in pairwise(knots)], 1)
    climbed[:, -1] += np.maximum(0, (x - knots[-1]) / (knots[-1] - knots[-2]))
    rises = nnls(climbed / ms[:, None], (ms - usual) / ms)[0]
    heights = usual + np.cumsum(np.maximum(rises, 1e-6 * dense))
    line = list(zip(knots, [usual, *map(float, heights)], strict=True))
    return tuple(line if usual else line[1:])


def part_sum(theta: Array, observation: Observation, grid: Grid) -> float:
    return float(row(observation.structure, grid) @ theta)


def row(structure: Structure, grid: Grid) -> Array:
    """How often each unknown enters a model's latency."""
    scales = grid.scales or ((1.0, 1.0),) * structure.depth
    scaled = [(b.heads * s, b.head_dim, b.hidden * t) for b, (s, t) in zip(structure.blocks, scales, strict=False)]
    full = [heads * head_dim / grid.head_dim for heads, head_dim, _ in scaled]
    # What every token passes through; of what is left only the widths count, and how many of each there are.
    whole = structure.last_attention if grid.last else structure.depth
    slopes = [sum(full[whole:]), float(sum(b.hidden for b in structure.blocks[whole:]))] if grid.last else []
    attention = sum((shares(grid.heads, width) for width in full[:whole]), np.zeros(len(grid.heads)))
    mlp = sum((shares(grid.hidden, hidden) for _, _, hidden in scaled[:whole]), np.zeros(len(grid.hidden)))
    bare = sum(heads - width for (heads, _, _), width in list(zip(scaled, full, strict=True))[:whole])
    return np.concatenate([[1.0, bare, *slopes], attention, mlp])


def shares(grid: Sequence[float], width: float) -> Array:
    """Weights of the grid's points in linear interpolation at `width`; sums to 1, or to 0 for what is not there."""
    if not width:
        return np.zeros(len(grid))
    return np.array([np.interp(width, grid, np.eye(len(grid))[i]) for i in range(len(grid))])


def rising(ms: Array) -> Array:
    """The nearest sequence (least squares) that never falls: a wider layer is never the cheaper one."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(ms).x, dtype=float)
