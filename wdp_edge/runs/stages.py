"""What each stage of a run hands to the next, and the file names of a run directory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from wdp_edge.errors import InputError
from wdp_edge.protocols.device import Latency
from wdp_edge.runs.results import Parity

RECIPE = "recipe.toml"
MANIFEST = "manifest.json"
RESULT = "result.json"
REPORT = "report.html"
OPERATORS = "operators.json"
REACHED = 1.02
"""A search that ends at most that far from its budget has reached it."""


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve. `values` by name: loss, accuracy, cost_ms, lambda, lr …"""

    step: int
    images: int
    values: dict[str, float]


@dataclass(frozen=True)
class Learned:
    """Stage `learn`. scores and keep ratios per block; curve with loss, cost_ms, keep ratios over time.

    heads_scores: per block one score per head; hidden_scores: per block one score per hidden unit.
    keep_heads, keep_hidden: learned keep ratio per block, in (0, 1].
    keep_channels: of heads' channels; empty where they were not learned, as in records of before.
    cost_ms, budget_ms: of the structure in the end, by the table, and what was wanted; 0 in records of before.
    """

    heads_scores: list[list[float]]
    hidden_scores: list[list[float]]
    keep_heads: list[float]
    keep_hidden: list[float]
    seconds: float
    images: int
    curve: list[CurvePoint]
    cost_ms: float = 0.0
    budget_ms: float = 0.0
    keep_channels: list[float] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        """Whether the search ended at its budget: otherwise its widths are where it had got to, not what it found."""
        return self.cost_ms <= REACHED * self.budget_ms

    def __post_init__(self) -> None:
        blocks = len(self.heads_scores)
        _fits(
            blocks > 0
            and {len(self.hidden_scores), len(self.keep_heads), len(self.keep_hidden)} == {blocks}
            and len(self.keep_channels) in (0, blocks),
            "its lists are not one for each block",
        )


@dataclass(frozen=True)
class Candidate:
    """A structure that was tried: compensated, then judged on held-back training images (never validation ones).

    head_dims: channels of each block's heads; empty where they are as in the dense model. temperature: of the
    divergence; above 1 where the dense model may know the images by heart.
    """

    name: str
    exit: int
    heads: list[int]
    hidden: list[int]
    predicted_ms: float
    agreement: float
    divergence: float
    chosen: bool
    head_dims: list[int] = field(default_factory=list)
    temperature: float = 1.0


@dataclass(frozen=True)
class Round:
    """One structure timed in the loop: its exported file's measured time against the table's word and the budget.

    used: measured share of the budget. spread: its standard error, relative. sessions: how often it was timed.
    """

    predicted_ms: float
    measured_ms: float
    dense_ms: float
    budget_ms: float
    correction: float
    used: float = 0.0
    spread: float = 0.0
    sessions: int = 1


@dataclass(frozen=True)
class Measured:
    """Stage `measure`: shipped and dense artifact timed in turn in one run, or in several that were put together."""

    dense: Latency
    shipped: Latency
    ratio: float
    budget_ms: float
    rounds_dense: list[float]
    rounds_shipped: list[float]

    def __post_init__(self) -> None:
        _fits(
            len(self.rounds_dense) == len(self.rounds_shipped) > 0,
            f"{len(self.rounds_dense)} rounds of the dense file, {len(self.rounds_shipped)} of the other",
        )
        times = [*self.rounds_dense, *self.rounds_shipped, self.dense.p50, self.shipped.p50, self.ratio, self.budget_ms]
        _fits(all(0 < ms < math.inf for ms in times), "a time in it is not above zero")


@dataclass(frozen=True)
class Selected:
    """Stage `select`: the units that stay.

    head_dims: per block, how many of the first channels of its heads (0 for no attention), for a model in principal
    axes; empty where all stay. measured: all timings of the structure; empty in records of before.
    """

    kept_heads: list[list[int]]
    kept_hidden: list[list[int]]
    predicted_ms: float
    candidates: list[Candidate]
    rounds: list[Round]
    seconds: float
    head_dims: list[int] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)

    def __post_init__(self) -> None:
        blocks = len(self.kept_heads)
        _fits(
            blocks > 0 and len(self.kept_hidden) == blocks and len(self.head_dims) in (0, blocks),
            "its lists are not one for each block",
        )
        for units in (*self.kept_heads, *self.kept_hidden):
            _fits(units == sorted(set(units)) and min(units, default=0) >= 0, "what it keeps is not in rising order")
        _fits(min(self.head_dims, default=0) >= 0, "heads have a negative width")


@dataclass(frozen=True)
class Recovered:
    """Stage `recover`: the fine-tuning curve (loss, lr, holdout accuracy). images = 0 when training is off.

    metric: what the accuracy of the curve is, where validation images have another one; "" in records of before.
    """

    seconds: float
    images: int
    curve: list[CurvePoint]
    metric: str = ""


@dataclass(frozen=True)
class Verified:
    """Stage `verify`: masked = shrunk = exported on real images."""

    parity: list[Parity]

    def __post_init__(self) -> None:
        _fits(bool(self.parity), "nothing was compared")


def _fits(fits: bool, reason: str) -> None:
    if not fits:
        raise InputError(f"The record is damaged: {reason}.", "Restore the file or start a new run.")
