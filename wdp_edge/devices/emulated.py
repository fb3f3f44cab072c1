"""Processors of other kinds that qemu stands for, and what a file computes on them."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.devices.hosts.host import Completed, demand, run_process
from wdp_edge.devices.processor import processor_kind
from wdp_edge.devices.qemu import ARCH, CPUS, EMULATOR, QemuHost
from wdp_edge.errors import InputError, SetupError
from wdp_edge.runners.build import bundle, tool

if TYPE_CHECKING:
    from torch import Tensor

_X86_64 = "x86_64"
_SECONDS = 1800.0


@dataclass(frozen=True)
class Emulated:
    """name: of the processor here. cpu: as qemu calls it. arch: of its programs, as `platform.machine` calls it.

    kind: as `processor_kind` would call such a processor.
    """

    name: str
    emulator: str
    cpu: str
    arch: str
    kind: str

    def run(self, argv: Sequence[str], what: str) -> Completed:
        """A program for this processor, to its end, and what it said.

        Raises SetupError when the emulator is missing, or when the program fails or hangs.
        """
        if self.arch == ARCH:
            done = QemuHost(self.name).run(argv, _SECONDS)  # shows it the core's own /proc/cpuinfo
        else:
            words = [tool(self.emulator), "-cpu", self.cpu, *argv]
            done = run_process(words, what, _SECONDS, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return demand(done, f"{self.emulator} -cpu {self.cpu}", what)


def _arm(name: str) -> Emulated:
    core = CPUS[name]
    return Emulated(name, EMULATOR, core.emulated, ARCH, processor_kind(ARCH, core.features.split()))


PROCESSORS = {
    "haswell": Emulated("haswell", "qemu-x86_64", "Haswell", _X86_64, "x86-64 avx2"),
    "cortex-a53": _arm("cortex-a53"),
    "cortex-a76": _arm("cortex-a76"),
}


def get_processor(name: str) -> Emulated:
    """Raises InputError for an unknown name or on a machine that does not emulate it, SetupError without the
    emulator."""
    if name not in PROCESSORS:
        raise InputError(f"There is no processor called '{name}'.", f"Known: {', '.join(PROCESSORS)}.")
    found = PROCESSORS[name]
    # Python itself is emulated for .onnx files on x86-64.
    if platform.system() != "Linux" or (found.arch == _X86_64 and platform.machine() != _X86_64):
        where = "x86-64 Linux" if found.arch == _X86_64 else "Linux"
        raise InputError(f"Processor '{name}' can be emulated on {where} only.", "Leave --processor out here.")
    try:
        tool(found.emulator)
    except SetupError as error:
        raise SetupError(f"Processor '{name}' needs {found.emulator}, which is not installed.", error.hint) from error
    return found


def outputs_on(processor: Emulated, target: str, path: Path, inputs: Tensor) -> Tensor:
    """inputs: [n, ...] as the file takes them -> [n, K] float32, what its runtime computes on `processor`.

    The native runner of the target does it; for .onnx files on this machine's own architecture Python, which needs no
    compiler. Raises InputError for a target without a native runner, SetupError when the runtime fails there or the
    runner cannot be built.
    """
    if target == "onnx" and processor.arch == platform.machine():
        return onnx_outputs(processor, path, inputs)
    return native_outputs(processor, target, path, inputs)


def onnx_outputs(processor: Emulated, path: Path, inputs: Tensor) -> Tensor:
    """As `outputs_on`, by ONNX Runtime under this machine's Python."""
    import numpy as np
    import torch

    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
        given, got = Path(folder) / "inputs.npy", Path(folder) / "outputs.npy"
        np.save(given, inputs.contiguous().numpy())
        words = ["-m", "wdp_edge.devices.onnx_outputs", str(path.absolute()), str(given), str(got)]
        processor.run([sys.executable, *words], f"running {path.name}")
        return torch.from_numpy(np.load(got, allow_pickle=False)).flatten(1)


def native_outputs(processor: Emulated, target: str, path: Path, inputs: Tensor) -> Tensor:
    """As `outputs_on`, by the target's native runner."""
    import numpy as np
    import torch

    runner = bundle(target, processor.arch)
    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
        given, got = Path(folder) / "inputs", Path(folder) / "outputs"
        inputs.contiguous().numpy().tofile(given)
        words = ["--inputs", str(given), "--outputs", str(got), str(path.absolute())]
        processor.run([*runner.argv(str(runner.folder)), *words], f"running {path.name}")
        values = torch.from_numpy(np.fromfile(got, dtype=np.float32))
    if not len(values) or len(values) % len(inputs):
        raise SetupError(
            f"The runner gives {len(values)} values for {len(inputs)} inputs of {path.name}.",
            "Remove the folder `runners` in wdp-edge's cache: it is built again.",
        )
    return values.reshape(len(inputs), -1)
