"""What the verbs return. Serialised by `wdp_edge.io.files.to_plain`, the same names in every command.

`accuracy` is the metric of the model's task, in [0, 1], `metric` beside it its name. `agreement` is what two forms of
a model share, such as images with the same top-1 class. The facts of every task say which (`wdp_edge.protocols.task`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wdp_edge.errors import WdpError
from wdp_edge.protocols.device import Conditions, Kind, Latency
from wdp_edge.protocols.target import Contents
from wdp_edge.runs.drops import Drops
from wdp_edge.runs.figures import BudgetFigures, ModelFigures
from wdp_edge.runs.look import FirstLook

RESULT_VERSION = 1


@dataclass(frozen=True)
class Parity:
    """How far two forms of one model agree on the same images, from exact to what a user sees.

    max_error: largest absolute difference of outputs. cosine, cosine_centred: smallest over the images; centred means
    without the reference's mean output vector, which hides errors. agreement: share of images treated alike.
    relative_error: `max_error` as a share of the largest absolute output. clear_agreement: `agreement`, where a
    difference counts only if the reference is clear about it. spread_error: root mean square of the differences, as a
    share of that of the centred outputs. simulated_error: the `spread_error` of the precision's scheme, simulated in
    PyTorch; None where the precision is not simulated. All four are None in runs of earlier versions.
    """

    name: str
    images: int
    max_error: float
    cosine: float
    cosine_centred: float
    agreement: float
    relative_error: float | None = None
    clear_agreement: float | None = None
    spread_error: float | None = None
    simulated_error: float | None = None


@dataclass(frozen=True)
class PruneResult:
    """`wdp_edge.prune`: the shipped artifact, the budget and the dense model it is held against.

    verified: the artifact stays as close to the shrunk model as the recipe's [verify] asks. drops: what each class
    loses; None in results of before they were recorded.
    warnings: what speaks against the dense model and its images, as `wdp_edge.pruning.first_look` finds it. first_look:
    what the model makes of training images; None in results of before.
    pruned: False where the dense file was inside the budget as it is, and ships.
    """

    run: Path
    target: str
    precision: str
    device: str
    budget: BudgetFigures
    dense: ModelFigures
    shipped: ModelFigures
    verified: bool = True
    task: str = "classify"
    metric: str = "accuracy"
    drops: Drops | None = None
    warnings: list[str] = field(default_factory=list)
    first_look: FirstLook | None = None
    pruned: bool = True
    version: int = RESULT_VERSION

    @property
    def time_ms(self) -> float:
        """The shipped file's time: the one that a budget of time is kept by, else the p50."""
        return self.shipped.latency_ms.p50 if self.budget.measured_ms is None else self.budget.measured_ms


@dataclass(frozen=True)
class ProcessorProof:
    """A kind of processor on which an integer file was as close to its model as the recipe's [verify] asks, or not.

    processor: its architecture and its instructions for integer products, such as "x86-64 avx2". emulator: what stood
    for it; "" for a real one. images: the file was run on. difference: the largest between outputs there and on the
    machine that emulated it, as a share of the largest output; None for a real one.
    """

    processor: str
    verified: bool
    images: int
    emulator: str = ""
    difference: float | None = None


@dataclass(frozen=True)
class ArtifactFigures:
    """One artifact, held against its model on training images, held-back ones where there are enough.

    accuracy: on these images; None where the metric counts none of them. verified: as close as [verify] asks.
    broke_at: the first part of the model whose output is not, where it was looked for. kept_float: layers that a
    chosen precision left unquantized. latency_ms: None where the artifact was not timed. proven_on: of an integer
    file; [] for others.
    """

    path: Path
    target: str
    precision: str
    bytes: int
    sha256: str
    parity: Parity
    accuracy: float | None
    verified: bool
    broke_at: str | None = None
    kept_float: list[str] | None = None
    latency_ms: Latency | None = None
    proven_on: list[ProcessorProof] = field(default_factory=list)


@dataclass(frozen=True)
class UnjudgedFile:
    """A file that was asked for and could not be made, or run and held against its model, on this machine.

    path: of the file; None where none was written. reason, hint: what is wrong, and what to do about it.
    where: an emulated processor or a device on which alone it was not judged; "" where that is not all.
    """

    path: Path | None
    target: str
    precision: str
    reason: str
    hint: str
    where: str = ""

    @classmethod
    def of(cls, error: WdpError, path: Path | None, target: str, precision: str, where: str = "") -> UnjudgedFile:
        """For an error that concerns this file alone. path: where it is or would be; None where that is not known."""
        written = path is not None and path.exists()
        return cls(path if written else None, target, precision, error.message, error.hint, where)

    @property
    def state(self) -> str:
        """In words: one that is there was not judged."""
        at = f" on {self.where}" if self.where else ""
        return f"not judged{at}" if self.path else "not made"


@dataclass(frozen=True)
class TriedFigures:
    """A precision that `--precision auto` measured. drop: points of accuracy lost against the fp32 file."""

    precision: str
    kept_float: list[str]
    accuracy: float
    drop: float
    latency_ms: float
    bytes: int
    allowed: bool


@dataclass(frozen=True)
class ExportResult:
    """`wdp_edge.export`: artifacts of a run's model, each compared with that model on real images.

    tried: what a chosen precision was chosen from; None where the precision was given. warnings: as in `PruneResult`.
    verified: all of them were judged, and are as close to the model as the recipe's [verify] asks.
    held_back: whether the images were never trained on; where too few are held back, all training images serve.
    memorised: whether the dense model may know them by heart all the same, so that agreement is too good.
    """

    run: Path
    artifacts: list[ArtifactFigures]
    verified: bool
    tried: list[TriedFigures] | None = None
    metric: str = "accuracy"
    warnings: list[str] = field(default_factory=list)
    unjudged: list[UnjudgedFile] = field(default_factory=list)
    held_back: bool = True
    memorised: bool = False
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class VerifyResult:
    """`wdp_edge.verify`: the chain dense → shrunk → artifact on real images.

    dense_accuracy, shrunk_accuracy: on the same images, in PyTorch and float32. shrunk: how far the
    shrunk model went from the dense one; None for a model that was not pruned. verified, held_back, memorised: as
    in `ExportResult`.
    """

    run: Path
    images: int
    dense_accuracy: float | None
    shrunk_accuracy: float | None
    shrunk: Parity | None
    artifacts: list[ArtifactFigures]
    verified: bool
    task: str = "classify"
    metric: str = "accuracy"
    unjudged: list[UnjudgedFile] = field(default_factory=list)
    held_back: bool = True
    memorised: bool = False
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class InspectResult:
    """`wdp_edge.inspect`: what is inside a file.

    about: what wdp-edge wrote into it; {} for a file of another maker. proven_on: as the .json beside it says.
    """

    path: Path
    target: str
    bytes: int
    contents: Contents
    about: dict[str, Any]
    proven_on: list[ProcessorProof] = field(default_factory=list)
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class KindTime:
    """All operators of one kind in an artifact. delegated: how many of them run in a delegate."""

    kind: str
    count: int
    delegated: int
    ms: float


@dataclass(frozen=True)
class PartTime:
    """A part of the model: `wdp_edge.cost.parts.Part`. block: from 0; None outside the blocks."""

    part: str
    block: int | None
    ms: float


@dataclass(frozen=True)
class OperatorProfile:
    """Where an artifact's time goes, by the runtime's own profiler, which makes it a little slower.

    ms: of all operators. outside_ms: of those outside of delegates. kinds: slowest first. parts: None where operators
    could not be told apart. kind: "estimated" for Core ML, which estimates shares; what is off the CPU is delegated.
    """

    path: Path
    ms: float
    outside_ms: float
    kinds: list[KindTime]
    parts: list[PartTime] | None
    kind: Kind = Kind.MEASURED


@dataclass(frozen=True)
class OperatorProfiles:
    """`operators.json` of a run."""

    file: OperatorProfile
    dense: OperatorProfile | None


@dataclass(frozen=True)
class ProfileResult:
    """`wdp_edge.profile`: an artifact's latency, with the dense artifact's from the same run where there is one.

    peak_memory: bytes of a process that ran only this file; None where the device did not tell.
    """

    path: Path
    target: str
    device: str
    threads: int
    latency_ms: Latency
    bytes: int
    dense_latency_ms: Latency | None = None
    ratio: float | None = None
    budget: BudgetFigures | None = None
    operators: OperatorProfiles | None = None
    peak_memory: int | None = None
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class Limit:
    """One thing that a [[budget]] limits. name: latency, size, accuracy_drop, max_class_drop or peak_memory.

    limit, measured: in unit (ms, bytes or points). kind: what stands behind a latency. conditions: of the device when
    the latency was measured; None when nothing is known. note: what has to be known to read `measured`.
    """

    name: str
    limit: float
    measured: float
    unit: str
    met: bool
    kind: Kind = Kind.MEASURED
    conditions: Conditions | None = None
    note: str | None = None


@dataclass(frozen=True)
class CheckedBudget:
    """One [[budget]] and the artifact held against it. verified: as in `ArtifactFigures`.

    drops: what each class loses, where the budget limits it.
    """

    target: str
    precision: str
    device: str
    threads: int
    path: Path
    limits: list[Limit]
    verified: bool
    met: bool
    drops: Drops | None = None


@dataclass(frozen=True)
class CheckResult:
    """`wdp_edge.check`: every [[budget]] of the project. met: all are kept. metric: what accuracy_drop is of.

    unjudged: files of budgets that could not be held against them, for one reason or another.
    """

    run: Path
    budgets: list[CheckedBudget]
    met: bool
    metric: str = "accuracy"
    unjudged: list[UnjudgedFile] = field(default_factory=list)
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class EvaluateResult:
    """`wdp_edge.evaluate`: accuracy of a file through its own runtime. also: as in `ModelFigures`."""

    path: Path
    target: str
    images: int
    accuracy: float
    metric: str = "accuracy"
    also: dict[str, float] | None = None
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class SetupStep:
    """One thing that was done. files: downloaded; bytes: of these, None where the server does not tell."""

    title: str
    files: list[str]
    bytes: int | None


@dataclass(frozen=True)
class SetupResult:
    """`wdp_edge.set_up`: what was missing for a kind of device and is there now."""

    name: str
    steps: list[SetupStep]
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class ReportResult:
    """`wdp_edge.report`: where the page is."""

    run: Path
    path: Path
    version: int = RESULT_VERSION
