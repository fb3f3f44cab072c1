"""Processors of other kinds that qemu stands for, and what an .onnx file computes on them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.devices.host import demand, run_process
from wdp_edge.errors import InputError, SetupError

if TYPE_CHECKING:
    from torch import Tensor

_SECONDS = 1800.0


@dataclass(frozen=True)
class Emulated:
    """cpu: as qemu calls it. kind: as `processor_kind` would call such a processor."""

    emulator: str
    cpu: str
    kind: str


PROCESSORS = {
    "haswell": Emulated("qemu-x86_64", "Haswell", "x86-64 avx2"),
}


def get_processor(name: str) -> Emulated:
    """Raises InputError for an unknown name or on a machine whose Python the emulator does not run, SetupError without
    the emulator."""
    if name not in PROCESSORS:
        raise InputError(f"There is no processor '{name}'.", f"Known are: {', '.join(PROCESSORS)}.")
    found = PROCESSORS[name]
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise InputError(f"Processor '{name}' can be emulated on x86-64 Linux only.", "Leave --processor out here.")
    if shutil.which(found.emulator) is None:
        raise SetupError(
            f"Processor '{name}' needs {found.emulator}, which is not installed.",
            "Install it with: sudo apt-get install qemu-user",
        )
    return found


def onnx_outputs(path: Path, inputs: Tensor, processor: Emulated | None) -> Tensor:
    """inputs: [n, ...] as the file takes them -> [n, K] float32, what ONNX Runtime computes on `processor`.

    processor: None is this machine's own. Raises SetupError when the runtime fails there.
    """
    import numpy as np
    import torch

    words = [] if processor is None else [processor.emulator, "-cpu", processor.cpu]
    with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
        given, got = Path(folder) / "inputs.npy", Path(folder) / "outputs.npy"
        np.save(given, inputs.contiguous().numpy())
        argv = [
            *words,
            sys.executable,
            "-m",
            "wdp_edge.devices.onnx_outputs",
            str(path.absolute()),
            str(given),
            str(got),
        ]
        what = f"running {path.name}"
        done = run_process(argv, what, _SECONDS, env={**os.environ, "OMP_NUM_THREADS": "1"})
        demand(done, "this machine" if processor is None else f"{processor.emulator} -cpu {processor.cpu}", what)
        return torch.from_numpy(np.load(got, allow_pickle=False))
