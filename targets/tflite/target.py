"""TFLite / LiteRT with the XNNPACK delegate: .tflite files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Contents, OperatorTime
from wdp_edge.targets.tflite.export import TFLiteFiles
from wdp_edge.targets.tflite.runtime import TFLiteProgram, contents, runtime

if TYPE_CHECKING:
    from wdp_edge.calibration.fake_quant import Scheme

RUNTIME = "ai-edge-litert>=2.3,<3"


class TFLiteTarget(TFLiteFiles):
    """The target `tflite`. docs/reference/targets/tflite.md has the figures behind its defaults.

    mlp_width_multiple: XNNPACK's kernels are those that ExecuTorch runs too.
    """

    name = "tflite"
    precisions: tuple[Precision, ...] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8_DYNAMIC,
        Precision.INT8_STATIC,
        Precision.INT8_WEIGHT,
    )
    default_precision = Precision.INT8_DYNAMIC
    mlp_width_multiple = 16

    def schemes(self) -> Mapping[Precision, Scheme]:
        """How integer files round: the patch embedding too."""
        from wdp_edge.calibration.fake_quant import Scheme

        return {
            Precision.INT8_DYNAMIC: Scheme("dynamic", per_token=True),
            Precision.INT8_STATIC: Scheme("static", self.observers[0], outputs=True),
        }

    def timed_here(self) -> bool:
        return True

    def missing(self) -> list[str]:
        """What running a file needs; `export` asks for the converter itself, which not every machine can have."""
        return [] if runtime() else [RUNTIME]

    def load(self, path: Path, threads: int) -> TFLiteProgram:
        """The artifact in LiteRT's own runtime on this machine, with this many threads.

        Raises InputError when the file is missing, cut short, contradicts itself, or is not a .tflite. Bytes changed
        within an operator's options can still abort the process: run files of unknown origin in a worker
        (wdp_edge.devices).
        """
        return TFLiteProgram(path, threads)

    def trace(self, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the file's operators, those inside XNNPACK too.

        Raises InputError like `load`, SetupError where there is only tflite_runtime, which has no profiler.
        """
        from wdp_edge.targets.tflite.trace import trace

        return trace(path, threads, runs)

    def inspect(self, path: Path) -> Contents:
        """What is inside the artifact; delegated as the runtime here splits it.

        Raises InputError like `load`.
        """
        return contents(path)
