"""What the verbs return. Serialised by `wdp_edge.files.to_plain`, the same names in every command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wdp_edge.device import Latency

RESULT_VERSION = 1


@dataclass(frozen=True)
class ModelFigures:
    """One model in numbers.

    accuracy: top-1 share of the validation images, in [0, 1]. macs: per image. bytes: of the artifact.
    exit: number of blocks kept. agreement: share of validation images with the dense model's top-1.
    """

    accuracy: float | None
    latency_ms: Latency
    macs: int
    parameters: int
    bytes: int
    path: Path | None = None
    exit: int | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class BudgetFigures:
    """latency_ms: the budget. measured_ms: the shipped file's. ratio: measured / budget. met: ratio <= 1."""

    latency_ms: float
    measured_ms: float
    ratio: float
    met: bool


@dataclass(frozen=True)
class Parity:
    """How far two forms of one model agree on the same images, from exact to what a user sees.

    max_error: largest absolute logit difference. cosine, cosine_centred: smallest over the images; centred means
    without the reference's mean logit vector, which hides errors. agreement: share with the same top-1.
    """

    name: str
    images: int
    max_error: float
    cosine: float
    cosine_centred: float
    agreement: float


@dataclass(frozen=True)
class PruneResult:
    """`wdp_edge.prune`: the shipped artifact, the budget and the dense model it is held against."""

    run: Path
    target: str
    precision: str
    device: str
    budget: BudgetFigures
    dense: ModelFigures
    shipped: ModelFigures
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class ExportResult:
    """`wdp_edge.export`: one artifact of a run's pruned model, compared with that model on real images."""

    run: Path
    target: str
    precision: str
    path: Path
    bytes: int
    sha256: str
    parity: Parity
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class ProfileResult:
    """`wdp_edge.profile`: an artifact's latency, with the dense artifact's from the same run where there is one."""

    path: Path
    target: str
    device: str
    threads: int
    latency_ms: Latency
    bytes: int
    dense_latency_ms: Latency | None = None
    ratio: float | None = None
    budget: BudgetFigures | None = None
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class EvaluateResult:
    """`wdp_edge.evaluate`: accuracy of a file through its own runtime."""

    path: Path
    target: str
    images: int
    accuracy: float
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class ReportResult:
    """`wdp_edge.report`: where the page is."""

    run: Path
    path: Path
    version: int = RESULT_VERSION
