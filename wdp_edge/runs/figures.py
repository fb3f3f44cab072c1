"""A model in numbers, and the budget that it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wdp_edge.config.values import Quantity
from wdp_edge.protocols.device import Kind, Latency


@dataclass(frozen=True)
class ModelFigures:
    """One model in numbers.

    accuracy, agreement: with the dense model, on the validation images. macs: per image. bytes: of the artifact.
    exit: number of blocks kept. also: the task's other figures by name, such as mAP, if it has any.
    """

    accuracy: float | None
    latency_ms: Latency
    macs: int
    parameters: int
    bytes: int
    path: Path | None = None
    exit: int | None = None
    agreement: float | None = None
    also: dict[str, float] | None = None


@dataclass(frozen=True)
class CountFigures:
    """A budget of something that is counted. limit: the budget; count: the shipped model's."""

    quantity: Quantity
    limit: int
    count: int


@dataclass(frozen=True)
class BudgetFigures:
    """latency_ms: the budget. measured_ms: the shipped file's; both None where the budget is `counted`.

    ratio: measured or counted / budget. met: ratio <= 1.
    kind: of the file's time; another one than measured keeps a budget of time only where the user accepted it.
    basis: what measured_ms is: "p50" of the shipped file's runs, for a budget in milliseconds, or "rounds", for a share
    of the dense model: the ratio of the two files' times in interleaved rounds, which other work on the machine hardly
    moves, times the dense p50. "count" where the budget is counted.
    """

    latency_ms: float | None
    measured_ms: float | None
    ratio: float
    met: bool
    kind: Kind = Kind.MEASURED
    basis: str = "p50"
    counted: CountFigures | None = None
