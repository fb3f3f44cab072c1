"""ExecuTorch with the XNNPACK delegate: .pte files."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.io.files import atomic_path
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Contents, ExportOptions, Observer, OperatorTime, check_options
from wdp_edge.targets.executorch.runtime import PteProgram
from wdp_edge.targets.shared.quiet import cheap_provenance, deferred_code, paused_collection, quiet

if TYPE_CHECKING:
    from torch import Tensor, nn

_STEPS = 5


class ExecuTorchTarget:
    """The target `executorch`. docs/reference/targets/executorch.md has the figures behind its defaults.

    mlp_width_multiple: XNNPACK's kernels write 16 channels at once with AVX-512 and 8 on Arm cores, so a width
    that is not a multiple of 16 costs as much as the next one (docs/concepts/lowering.md).
    """

    name = "executorch"
    suffix = ".pte"
    precisions: tuple[Precision, ...] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8_DYNAMIC,
        Precision.INT8_STATIC,
        Precision.INT4_WEIGHT,
    )
    default_precision = Precision.INT8_DYNAMIC
    observers: tuple[Observer, ...] = (Observer.MSE, Observer.MINMAX)
    mlp_width_multiple = 16
    imports = ("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner")

    def timed_here(self) -> bool:
        return True

    def missing(self) -> list[str]:
        return [] if find_spec("executorch") else ["executorch>=1.5.1,<1.6"]

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("executorch", "torch", "torchao", "wdp-edge")}

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        """Writes the .pte, atomically.

        model: a timm ViT (or any module), not modified. example: [1, ...].
        Raises InputError for what the target cannot do, and when int8-static gets no calibration images.
        """
        import torch

        check_options(self, options)
        precision = options.precision
        if precision == Precision.INT8_STATIC and options.calibration is None:
            raise InputError("int8-static needs calibration images.", "Give training images, or use int8-dynamic.")
        title = f"export {precision}"
        with (
            progress.task(title, _STEPS) as advance,
            quiet(),
            cheap_provenance(),
            deferred_code(),
            paused_collection(),
            torch.no_grad(),
        ):
            from wdp_edge.targets.executorch.edge import to_edge
            from wdp_edge.targets.executorch.precisions import quantize

            prepared = prepare(model, options)
            # Kept in the file, another order of the example's dimensions would be taken for that of every input.
            example = example.contiguous()
            advance(1)
            program = torch.export.export(prepared, (example,))
            advance(1)
            if precision in (Precision.INT8_DYNAMIC, Precision.INT8_STATIC):
                program = quantize(program, example, options)
            advance(1)
            edge = to_edge(program, options.metadata)
            advance(1)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                edge.to_executorch().write_to_file(file)
            advance(1)
        return Artifact.of(path, self.name, precision)

    def load(self, path: Path, threads: int) -> PteProgram:
        """The artifact in ExecuTorch's own runtime on this machine, with this many threads.

        Raises InputError when the file is missing, cut short, or not a .pte. Bytes changed within the weights
        can still abort the process: run files of unknown origin in a worker (wdp_edge.devices).
        """
        return PteProgram(path, threads)

    def trace(self, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the artifact's operators; in the delegate by XNNPACK's names. Raises InputError like `load`."""
        from wdp_edge.targets.executorch.trace import trace

        return trace(path, threads, runs)

    def inspect(self, path: Path) -> Contents:
        """What is inside the artifact; operators in the XNNPACK delegate have its names.

        Raises InputError like `load`.
        """
        from wdp_edge.targets.executorch.file import contents

        return contents(path)


def prepare(model: nn.Module, options: ExportOptions) -> nn.Module:
    """The lowered model, with what a precision changes in its modules; int8 is done after capture."""
    from wdp_edge.lowering.narrow import IMAGES, narrow_stream, readers
    from wdp_edge.lowering.vit import check_kept, lower
    from wdp_edge.targets.executorch.precisions import HalfModel, quantize_weights

    lowered = lower(model)
    check_kept(lowered, options.keep_float)
    if options.precision == Precision.INT4_WEIGHT:
        quantize_weights(lowered, options.keep_float)
    if options.precision != Precision.FP16:
        return lowered
    looked_at = options.calibration is not None
    if options.calibration is not None:
        narrow_stream(lowered, options.calibration[:IMAGES])
    return HalfModel(lowered, readers(lowered) if looked_at else ()).eval()
