"""Runs .tflite files on LiteRT's GPU accelerator, and on it alone: nothing falls back to the CPU unnoticed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.target import Contents, OperatorCount
from wdp_edge.runners.vulkan import find_driver, has_software_driver
from wdp_edge.targets.shared.quiet import quiet, silent_stderr
from wdp_edge.targets.tflite.file import FileRecord, read_file
from wdp_edge.targets.tflite.runtime import LITERT, contents

if TYPE_CHECKING:
    from torch import Tensor

_ACCELERATOR = "libLiteRtWebGpuAccelerator"
# Of LiteRT's log; it has no other way to tell.
_ADAPTER = re.compile(r"Selected adapter: (?P<name>.+?), arch=.*adapterType=(?P<kind>[^\n]+)")
_COUNTS = re.compile(r"(?P<gpu>\d+) operations will run on the GPU, and the remaining (?P<cpu>\d+) operations")
_REFUSED = re.compile(r"^(?P<kind>[A-Z0-9_]+): (?P<why>.+)$", re.MULTILINE)
_FAILED = re.compile(r"Failed to create litert::ml_drift::DelegateKernelLiteRt: (?P<why>[^\n]+)")
_NO_DRIVER = "Failed to initialize WebGPU environment"
_LEVELS = ("INFO", "WARNING", "ERROR")
_SHOWN = 160


@dataclass(frozen=True)
class Split:
    """How the accelerator takes a file, by its own log. adapter: the GPU's name; "" where it got to none.

    software: whether a processor stands for the GPU. left: operators that stay on the CPU. reasons: why, such as
    "DIV: No support of few identical inputs in the same operation.". failure: what kept it from building its kernels.
    """

    adapter: str = ""
    software: bool = False
    taken: int = 0
    left: int = 0
    reasons: tuple[str, ...] = ()
    failure: str = ""

    @property
    def ran_on(self) -> str:
        """Such as "SwiftShader Device (Subzero), a software driver"."""
        return f"{self.adapter}, a software driver" if self.software else self.adapter


def read_log(text: str) -> Split:
    """What LiteRT said while it loaded a file."""
    adapter, counts, failed = (pattern.search(text) for pattern in (_ADAPTER, _COUNTS, _FAILED))
    refused = text[: counts.start()] if counts else ""
    reasons = tuple(f"{m['kind']}: {m['why']}" for m in _REFUSED.finditer(refused) if m["kind"] not in _LEVELS)
    return Split(
        adapter["name"].strip() if adapter else "",
        bool(adapter and "CPU" in adapter["kind"]),
        int(counts["gpu"]) if counts else 0,
        int(counts["cpu"]) if counts else 0,
        reasons,
        failed["why"][:_SHOWN] if failed else "",
    )


class GpuProgram:
    """A loaded .tflite of which every operator runs on the GPU: see `wdp_edge.protocols.target.Program`."""

    def __init__(self, path: Path) -> None:
        record = read_file(path)
        self._model, self.split = compiled(path, is_exact(record))
        if self._model is None:
            raise refusal(path, self.split)
        graph = record.graphs[0]
        entry, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
        self.input_shape, self.input_dtype = entry.shape, entry.dtype
        self._shape = result.shape
        self._inputs, self._outputs = self._model.create_input_buffers(0), self._model.create_output_buffers(0)

    @property
    def ran_on(self) -> str:
        return self.split.ran_on

    @property
    def software(self) -> bool:
        """Whether its times would be a processor's."""
        return self.split.software

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32, a tensor of its own."""
        import numpy as np
        import torch

        self._inputs[0].write(np.ascontiguousarray(x.numpy()))
        self._model.run_by_index(0, self._inputs, self._outputs)
        count = int(np.prod(self._shape))
        return torch.from_numpy(np.array(self._outputs[0].read(count, np.float32)).reshape(self._shape))


def is_exact(record: FileRecord) -> bool:
    """Whether all weights are float32: such a file is for an app that asks the GPU for 32-bit floats."""
    return not any(t.data and t.dtype in ("float16", "int8") for t in record.graphs[0].tensors)


def compiled(path: Path, exact: bool) -> tuple[Any, Split]:
    """The file for the accelerator alone, None where that does not take all of it; and what it said.

    exact: computed in 32-bit floats, where the GPU would take 16-bit ones.
    Raises SetupError where there is no accelerator or no driver for it.
    """
    check_installed()
    find_driver()
    from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options

    # Without the CPU among the accelerators a file that is not taken whole is refused, whatever the log says.
    options = Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=exact))
    with quiet(), silent_stderr() as said:
        try:
            model = CompiledModel.from_file(str(path), options=options)
        except RuntimeError as error:
            model, text = None, f"{said()}\n{error}"
        else:
            text = said()
    split = read_log(text)
    if not split.adapter or _NO_DRIVER in text:
        raise SetupError(
            "LiteRT's GPU accelerator finds no Vulkan driver that it accepts here.",
            "Install the GPU's driver, or unset VK_DRIVER_FILES and VK_ICD_FILENAMES."
            if has_software_driver()
            else "Fetch a software one with: wdp-edge devices setup gpu",
        )
    return model, split


def check_installed() -> None:
    """Raises SetupError where the wheel with the accelerator is not here."""
    spec = find_spec(LITERT)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    if not any(any(folder.glob(f"{_ACCELERATOR}.*")) for folder in folders):
        raise SetupError(
            "This installation of LiteRT has no GPU accelerator for Vulkan.",
            "Install ai-edge-litert 2.3 or newer on Linux: pip install 'wdp-edge[tflite]'",
        )


def refusal(path: Path, split: Split) -> InputError:
    """Why the file does not run on the GPU."""
    hint = "Export it for the GPU: wdp-edge export --target tflite --unit gpu"
    if split.left:
        total, why = split.taken + split.left, "; ".join(reason.rstrip(".") for reason in split.reasons)
        return InputError(f"The GPU takes {split.taken} of {total} operators of {path} ({why}).", hint)
    return InputError(f"The GPU cannot run {path}: {split.failure or 'LiteRT does not say why'}.", hint)


def gpu_contents(path: Path) -> Contents:
    """See `Target.inspect`. Delegated is what the accelerator takes; what it says of the rest is in the notes."""
    found = contents(path)
    order = kinds_in_order(path)
    model, split = compiled(path, is_exact(read_file(path)))
    taken = Counter(order if model is not None else before_the_first_refused(order, split))
    operators = tuple(OperatorCount(kind, count, taken[kind]) for kind, count in sorted(Counter(order).items()))
    return replace(found, operators=operators, delegates=int(bool(taken)), notes=notes(model is not None, split))


def kinds_in_order(path: Path) -> list[str]:
    """Kinds of the file's operators, as TFLite's schema calls them."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    return [names.get(operator.kind, f"operator {operator.kind}") for operator in read_file(path).graphs[0].operators]


def before_the_first_refused(order: Sequence[str], split: Split) -> Sequence[str]:
    """Operators that the accelerator takes of a file that it does not take whole: one row of them, and LiteRT says how
    long, not where. It is what comes before the first that it refuses, if that is as long; else none is said to be in.
    """
    refused = {reason.partition(":")[0] for reason in split.reasons}
    first = next((place for place, kind in enumerate(order) if kind in refused and place >= split.taken), None)
    return order[: split.taken] if first == split.taken else ()


def notes(whole: bool, split: Split) -> tuple[str, ...]:
    """In words, for people."""
    if whole:
        return (f"all operators run on the GPU ({split.ran_on})",)
    if not split.left:
        return (f"the GPU cannot run it: {split.failure or 'LiteRT does not say why'}",)
    counts = f"{split.taken} operators run on the GPU, {split.left} on the CPU ({split.ran_on})"
    return (counts, *(f"the GPU does not take {reason}" for reason in split.reasons))
