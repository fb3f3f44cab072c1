"""TFLite / LiteRT on a GPU: .tflite files that LiteRT's GPU accelerator takes whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.io.files import atomic_path
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Contents, ExportOptions
from wdp_edge.runners.vulkan import has_gpu
from wdp_edge.targets.tflite.export import TFLiteFiles
from wdp_edge.targets.tflite.runtime import TFLiteProgram, runtime
from wdp_edge.targets.tflite.target import RUNTIME
from wdp_edge.targets.tflite_gpu.graph import fitted
from wdp_edge.targets.tflite_gpu.half import rounded
from wdp_edge.targets.tflite_gpu.runtime import GpuProgram, gpu_contents

if TYPE_CHECKING:
    from torch import nn

    from wdp_edge.calibration.fake_quant import Scheme


class TFLiteGpuTarget(TFLiteFiles):
    """The target `tflite:gpu`. docs/devices/gpu.md says what was tried.

    Integer weights are stored as int8-dynamic stores them, the only form that the accelerator takes, and it computes
    their layers in floats. mlp_width_multiple: GPUs keep channels in fours, and the same file may run on a CPU.
    """

    name = "tflite:gpu"
    suffix = ".gpu.tflite"
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8_WEIGHT)
    default_precision = Precision.FP16
    mlp_width_multiple = 16
    untimed = "it has no GPU, and what stands for one takes other times"

    def schemes(self) -> Mapping[Precision, Scheme]:
        """How integer files round: weights alone."""
        from wdp_edge.calibration.fake_quant import WEIGHT_ONLY

        return {Precision.INT8_WEIGHT: WEIGHT_ONLY}

    def timed_here(self) -> bool:
        """Only by a GPU: the software driver's times mean nothing."""
        return has_gpu()

    def missing(self) -> list[str]:
        return [] if runtime() else [RUNTIME]

    def fitted(self, data: bytes) -> bytes:
        return fitted(data)

    def prepared(self, lowered: nn.Module, options: ExportOptions) -> nn.Module:
        """With a stream whose squares 16-bit floats hold, on the calibration images."""
        if options.calibration is not None:
            from wdp_edge.lowering.narrow import IMAGES, narrow_stream

            narrow_stream(lowered, options.calibration[:IMAGES])
        return lowered

    def form(self, precision: Precision) -> Precision:
        return Precision.INT8_DYNAMIC if precision == Precision.INT8_WEIGHT else precision

    def load(self, path: Path, threads: int) -> GpuProgram:
        """The artifact on the GPU accelerator of LiteRT, all of it.

        Raises InputError for a file that is not sound or not taken whole, SetupError without a driver. Run it in a
        worker (wdp_edge.devices): a driver may take the process with it.
        """
        return GpuProgram(path)

    def load_narrow(self, path: Path, threads: int) -> TFLiteProgram:
        """The artifact as a GPU with 16-bit floats computes it, on the CPU."""
        with tempfile.TemporaryDirectory(prefix="wdp-edge-") as folder:
            place = Path(folder) / "rounded.tflite"
            with atomic_path(place) as temporary:
                temporary.write_bytes(rounded(path.read_bytes()))
            return TFLiteProgram(place, threads)

    def inspect(self, path: Path) -> Contents:
        """What is inside the artifact, and how the GPU accelerator takes it. Raises like `load`."""
        return gpu_contents(path)
