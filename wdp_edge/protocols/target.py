"""What an export target is, and how one is found: the entry-point group `wdp_edge.targets`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.precision import PRECISIONS, Precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wdp_edge.runners.build import Bundle

GROUP = "wdp_edge.targets"
CPU = "cpu"
_UNIT = ":"  # between a target's name and the unit of the device that its files are for; those for CPUs have none


class Observer(StrEnum):
    """How the range of an activation is chosen from calibration images; a target lists those its toolkit has."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"


@dataclass(frozen=True)
class ExportOptions:
    """How a model becomes an artifact.

    calibration: [n, 3, H, W], as the file takes its input; precisions with calibrated ranges need it.
    observer: None takes the target's default.
    keep_float: layers that are not quantized, by their names in the lowered model, such as "blocks.3.attn.proj"
    (`wdp_edge.lowering.vit.quantized_layers` lists them). "blocks.3.attn.qkv" stands for q, k and v.
    metadata: texts that the file carries in its format's own way.
    """

    precision: Precision
    calibration: Tensor | None = None
    observer: Observer | None = None
    keep_float: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """A file (or a folder that counts as one, such as a Core ML package) that a device runs.

    precision: its name; `precision_of` tells more.
    """

    path: Path
    target: str
    precision: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, target: str, precision: str) -> Artifact:
        """What was just written to `path`."""
        from wdp_edge.io.files import sha256, size_of

        return cls(path, target, precision, size_of(path), sha256(path))


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an artifact. dtype: as numpy calls it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OperatorCount:
    """How often a kind of operator occurs, and how many of these run inside a delegate."""

    kind: str
    count: int
    delegated: int


@dataclass(frozen=True)
class WeightBytes:
    """Weights stored in one number format. dtype: as the format calls it, such as int8 or float16."""

    dtype: str
    tensors: int
    bytes: int


@dataclass(frozen=True)
class Contents:
    """What is inside an artifact. delegates: subgraphs handed to a delegate (XNNPACK …); 0 where there are none.

    Operators that a format does not show as delegated until it is loaded are counted as the runtime here splits them.
    notes: what the runtime says about that, a sentence each.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: tuple[OperatorCount, ...]
    weights: tuple[WeightBytes, ...]
    delegates: int
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()


class OperatorRole(StrEnum):
    """What an operator is to a Vision Transformer. linear: a layer with weights. matmul: of two activations."""

    CONV = "conv"
    LINEAR = "linear"
    MATMUL = "matmul"
    SOFTMAX = "softmax"
    NORM = "norm"
    OTHER = "other"


@dataclass(frozen=True)
class OperatorTime:
    """One operator of an artifact in the order of execution, as the runtime's own profiler timed it.

    name: as the runtime calls its kind. ms: mean over runs without the slowest fifth.
    """

    name: str
    role: OperatorRole
    ms: float
    delegated: bool


class Program(Protocol):
    """A loaded artifact. input_shape: of its one input, such as (1, 3, 56, 56).

    input_dtype: "float32", or "uint8" for a file that takes pixels because normalisation is folded into it.
    It may have `ran_on`: what computes it, where that is not this machine's CPU.
    """

    input_shape: tuple[int, ...]
    input_dtype: str

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32."""
        ...


class Target(Protocol):
    """Makes and runs one kind of artifact. An adapter is one small class in its own file.

    mlp_width_multiple: MLP widths that the target's kernels run without waste are multiples of this.
    observers: the first is the default.
    """

    name: str
    suffix: str
    precisions: tuple[Precision, ...]
    default_precision: Precision
    observers: tuple[Observer, ...]
    mlp_width_multiple: int

    def timed_here(self) -> bool:
        """Whether `load` gives the runtime that a device would use, so that its times mean something."""
        ...

    def missing(self) -> list[str]:
        """pip requirements that are not installed; [] when the target is ready."""
        ...

    def versions(self) -> dict[str, str]:
        """Packages that shape the artifact and their versions."""
        ...

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        """Writes the artifact to `path`, atomically.

        model: a timm ViT (or any module) in eval mode, float32; not modified.
        example: [1, ...] gives the input's shape and type: float32, or uint8 for a model with folded normalisation.
        Raises InputError for options that the target cannot do, naming those it can.
        """
        ...

    def load(self, path: Path, threads: int) -> Program:
        """The artifact in its own runtime on this machine.

        Raises InputError when the file is not a sound artifact of this target.
        """
        ...

    def inspect(self, path: Path) -> Contents:
        """What is inside the artifact.

        Raises InputError when the file is not a sound artifact of this target.
        """
        ...


@runtime_checkable
class Tracing(Protocol):
    """A target whose runtime tells how long each operator takes."""

    def trace(self, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the artifact's operators, on this machine.

        Raises InputError when the file is not a sound artifact of this target.
        """
        ...


@runtime_checkable
class Rounding(Protocol):
    """A target whose runtime here may compute in a wider number format than its file has: float16 in float32."""

    def load_rounding(self, path: Path, threads: int) -> Program:
        """As `Target.load`, with results rounded to the file's own format: to judge a file by, not to time it."""
        ...


@runtime_checkable
class Narrow(Protocol):
    """A target whose unit computes in 16-bit floats, which what stands for the unit here may lack."""

    def load_narrow(self, path: Path, threads: int) -> Program:
        """The file with every result rounded to float16, on this machine's CPU: to judge by, not to time."""
        ...


@runtime_checkable
class Bundling(Protocol):
    """A target that brings a native runner of its own: what devices that a shell reaches time its files with."""

    def bundle(self, arch: str) -> Bundle:
        """The runner and all that it needs on the device, for a CPU: x86_64 or aarch64.

        Raises SetupError where it cannot be made.
        """
        ...


def check_options(target: Target, options: ExportOptions) -> None:
    """Raises InputError for a precision or an observer that the target does not have, naming those it has."""
    parse_precision(options.precision, target)
    if options.observer is not None and options.observer not in target.observers:
        known = ", ".join(target.observers) or "none"
        raise InputError(f"Target '{target.name}' has no observer '{options.observer}'.", f"It has: {known}.")


def check_timed(target: Target) -> None:
    """Raises InputError when the target's files only evaluate here, so that their times would mean nothing."""
    if not target.timed_here():
        why = getattr(target, "untimed", "their runtime is not here")
        raise InputError(
            f"Files of target '{target.name}' cannot be timed on this machine: {why}.",
            "Run this where the runtime is; export, verify and evaluate work here too.",
        )


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def target_names() -> list[str]:
    return sorted(_entries())


def targets_of(unit: str) -> list[str]:
    """Names of those that make files for a unit of the device; those for its CPU are for no unit in particular.

    Raises InputError where there is none.
    """
    found = [name for name in target_names() if (name.partition(_UNIT)[2] or CPU) == unit]
    if not found:
        units = dict.fromkeys([CPU, *(name.partition(_UNIT)[2] for name in target_names() if _UNIT in name)])
        raise InputError(f"No target makes files for the unit '{unit}'.", f"Units: {', '.join(units)}.")
    return found


def on_unit(name: str, unit: str) -> str:
    """The target of this name whose files are for a unit: "tflite" on "gpu" is "tflite:gpu".

    Raises InputError where there is none.
    """
    base, _, own = name.partition(_UNIT)
    if own and own != unit:
        raise InputError(f"Files of target '{name}' are not for the unit '{unit}'.", f"Name the target {base}.")
    full, those = base if unit == CPU else f"{base}{_UNIT}{unit}", targets_of(unit)
    if full not in those and base in _entries():
        fitting = ", ".join(other.partition(_UNIT)[0] for other in those)
        raise InputError(f"Target '{base}' makes no files for the unit '{unit}'.", f"Targets that do: {fitting}.")
    return full


def target_class(name: str) -> type[Target]:
    """The adapter class called `name`; its packages may be missing.

    Raises InputError for an unknown name, SetupError for an adapter that itself needs a package to be imported.
    """
    return _loaded(_entry(name))


def _entry(name: str) -> EntryPoint:
    found = _entries()
    if name not in found:
        raise InputError(
            f"There is no target '{name}'.",
            f"Installed targets: {', '.join(sorted(found)) or 'none'}. Others come with a package that brings them.",
        )
    return found[name]


def _loaded(entry: EntryPoint) -> type[Target]:
    try:
        adapter: type[Target] = entry.load()
    except ImportError as error:
        package = entry.dist.name if entry.dist else entry.module
        raise SetupError(
            f"Target '{entry.name}' cannot be imported: {error}.", f"Install what {package} needs."
        ) from error
    return adapter


def get_target(name: str) -> Target:
    """The adapter called `name`, ready to use.

    Raises InputError for an unknown name, SetupError when its packages are missing.
    """
    target: Target = target_class(name)()
    if missing := target.missing():
        raise SetupError(
            f"Target '{name}' needs {', '.join(missing)}.", f"Install it with: {install_command(name, missing)}"
        )
    return target


def install_command(name: str, missing: Sequence[str]) -> str:
    """What installs the packages that a target lacks: the extra of the package that brings it, or the packages.

    missing: pip requirements. Raises InputError for an unknown name.
    """
    brought_by = _entry(name).dist
    extras = brought_by.metadata.get_all("Provides-Extra") if brought_by else None
    wanted = [f"{brought_by.name}[{name}]"] if brought_by and name in (extras or ()) else missing
    return f"pip install {' '.join(map(_quoted, wanted))}"


def _quoted(requirement: str) -> str:
    return f"'{requirement}'"


def imports_of(name: str) -> tuple[str, ...]:
    """Modules that an export for this target takes seconds to import, as the adapter's optional `imports` says.

    A module that starts a thread when it is imported must not be among them.
    """
    return tuple(getattr(target_class(name), "imports", ()))


def parse_precision(text: str, target: Target) -> Precision:
    """`text` as a precision of `target`; "default" is the one the target recommends."""
    if text == "default":
        return target.default_precision
    found = next((precision for precision in target.precisions if precision == text), None)
    if found is None:
        raise InputError(
            f"Target '{target.name}' has no precision '{text}'.",
            f"Use one of: {', '.join(target.precisions)}.",
        )
    return found


def precision_of(target: str, name: str) -> Precision:
    """The precision that a target calls `name`; its packages may be missing.

    Raises InputError for an unknown one or an unknown target, SetupError for a target that cannot be imported.
    """
    return parse_precision(name, target_class(target)())


def precision_names() -> list[str]:
    """Of all targets that can be imported, our own first; `doctor` tells of the others."""
    names: dict[str, None] = dict.fromkeys(PRECISIONS)
    for _, entry in sorted(_entries().items()):
        with contextlib.suppress(SetupError):
            names |= dict.fromkeys(_loaded(entry).precisions)
    return [str(name) for name in names]
