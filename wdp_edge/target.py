"""What an export target is, and how one is found: the entry-point group `wdp_edge.targets`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wdp_edge.errors import InputError, SetupError

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUP = "wdp_edge.targets"


class Precision(StrEnum):
    """Number formats of an artifact; a target lists those it can do."""

    FP32 = "fp32"
    INT8_DYNAMIC = "int8-dynamic"
    INT8_STATIC = "int8-static"


@dataclass(frozen=True)
class Artifact:
    """A file that a device runs."""

    path: Path
    target: str
    precision: Precision
    bytes: int
    sha256: str


class Program(Protocol):
    """A loaded artifact. input_shape: of its one input, such as (1, 3, 56, 56)."""

    input_shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] float32 -> [1, classes] float32."""
        ...


class Target(Protocol):
    """Makes and runs one kind of artifact. An adapter is one small class in its own file.

    hidden_multiple: MLP widths that the target's kernels run without waste are multiples of this.
    """

    name: str
    suffix: str
    precisions: tuple[Precision, ...]
    default_precision: Precision
    hidden_multiple: int

    def missing(self) -> list[str]:
        """pip requirements that are not installed; [] when the target is ready."""
        ...

    def versions(self) -> dict[str, str]:
        """Packages that shape the artifact and their versions."""
        ...

    def export(
        self, model: nn.Module, example: Tensor, path: Path, precision: Precision, calibration: Tensor | None
    ) -> Artifact:
        """Writes the artifact to `path`, atomically.

        model: a timm ViT (or any module) in eval mode, float32; not modified.
        example: [1, ...] float32, gives the input shape. calibration: [n, ...] float32 for static precisions.
        """
        ...

    def load(self, path: Path, threads: int) -> Program:
        """The artifact in its own runtime on this machine.

        Raises InputError when the file is not a sound artifact of this target.
        """
        ...


def target_names() -> list[str]:
    return sorted({e.name for e in entry_points(group=GROUP)})


def get_target(name: str) -> Target:
    """The adapter called `name`, ready to use.

    Raises InputError for an unknown name, SetupError when its packages are missing.
    """
    found = {e.name: e for e in entry_points(group=GROUP)}
    if name not in found:
        raise InputError(f"There is no target '{name}'.", f"Installed targets: {', '.join(sorted(found)) or 'none'}.")
    target: Target = found[name].load()()
    if missing := target.missing():
        raise SetupError(
            f"Target '{name}' needs {', '.join(missing)}.", f"Install it with: pip install 'wdp-edge[{name}]'"
        )
    return target


def parse_precision(text: str, target: Target) -> Precision:
    """`text` as a precision of `target`; "default" is the one the target recommends."""
    if text == "default":
        return target.default_precision
    if text not in [p.value for p in target.precisions]:
        raise InputError(
            f"Target '{target.name}' has no precision '{text}'.",
            f"Use one of: {', '.join(target.precisions)}.",
        )
    return Precision(text)
