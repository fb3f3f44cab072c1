"""ONNX for ONNX Runtime: .onnx files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.io.files import atomic_path
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Contents, ExportOptions, Observer, OperatorTime, check_options
from wdp_edge.targets.onnx.file import contents, read
from wdp_edge.targets.onnx.runtime import ONNXProgram
from wdp_edge.targets.shared.quiet import cheap_provenance, quiet, silent_stderr
from wdp_edge.targets.shared.reuse import LastConversion

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

    from wdp_edge.calibration.fake_quant import Scheme

_STEPS = 4
_REQUIREMENTS = {"onnx": "onnx>=1.19,<2", "onnxscript": "onnxscript>=0.7,<0.8", "onnxruntime": "onnxruntime>=1.23,<2"}


class ONNXTarget:
    """The target `onnx`.

    mlp_width_multiple: int8 kernels write 16 channels at once with AVX-512; what lies between costs about one per cent.
    """

    name = "onnx"
    suffix = ".onnx"
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8_DYNAMIC, Precision.INT8_STATIC)
    default_precision = Precision.INT8_DYNAMIC
    observers: tuple[Observer, ...] = (Observer.MSE, Observer.MINMAX, Observer.PERCENTILE)
    mlp_width_multiple = 16
    imports = ("onnxscript", "torch.onnx._internal.exporter._core")

    def __init__(self) -> None:
        self._converted: LastConversion[bytes] = LastConversion()

    def schemes(self) -> Mapping[Precision, Scheme]:
        """How integer files round: dynamic ranges are those of whole tensors, and layers write float."""
        from wdp_edge.calibration.fake_quant import Scheme

        return {
            Precision.INT8_DYNAMIC: Scheme("dynamic", convolutions=False, paired=True),
            Precision.INT8_STATIC: Scheme("static", self.observers[0], paired=True),
        }

    def timed_here(self) -> bool:
        return True

    def missing(self) -> list[str]:
        return [requirement for name, requirement in _REQUIREMENTS.items() if not find_spec(name)]

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("onnx", "onnxruntime", "onnxscript", "torch", "wdp-edge")}

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        """Writes the .onnx, atomically: standard operators only, weights inside.

        model: a timm ViT (or any module), not modified. example: [1, ...].
        Raises InputError for what the target cannot do, when int8-static gets no calibration images, and for models
        beyond 2 GB.
        """
        import torch
        from onnx import ModelProto

        from wdp_edge.lowering.vit import check_kept, lower, matches, output_name, quantized_layers
        from wdp_edge.targets.onnx.graph import forget_origins, to_onnx

        check_options(self, options)
        if options.precision == Precision.INT8_STATIC and options.calibration is None:
            raise InputError("int8-static needs calibration images.", "Give training images, or use int8-dynamic.")
        title = f"export {options.precision}"
        with progress.task(title, _STEPS) as advance, quiet(), silent_stderr(), cheap_provenance(), torch.no_grad():
            lowered = lower(model, norms="native")
            check_kept(lowered, options.keep_float)
            layers, output = quantized_layers(lowered), output_name(lowered)
            advance(1)
            program = torch.export.export(lowered, (example,))
            graph = ModelProto.FromString(
                self._converted.get(program, lambda: to_onnx(program, layers, output).SerializeToString())
            )
            advance(1)
            chosen = [name for name in layers if not matches(name, options.keep_float)]
            graph = in_precision(graph, lowered, chosen, options, self.observers[0])
            forget_origins(graph)
            for key, value in options.metadata.items():
                graph.metadata_props.add(key=key, value=value)
            advance(1)
            with atomic_path(path) as temporary:
                temporary.write_bytes(graph.SerializeToString())
            advance(1)
        return Artifact.of(path, self.name, options.precision)

    def load(self, path: Path, threads: int) -> ONNXProgram:
        """The artifact in ONNX Runtime on this machine, with this many threads.

        Raises InputError when the file is missing, cut short, damaged, or not a model for one image.
        """
        return ONNXProgram(path, threads)

    def load_rounding(self, path: Path, threads: int) -> ONNXProgram:
        """As `load`, but float16 files round what every operator writes; this machine computes them in float32."""
        from wdp_edge.targets.onnx.rounding import has_half, rounded

        model = read(path)
        return ONNXProgram(path, threads, rounded(model).SerializeToString() if has_half(model) else None)

    def trace(self, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the operators that the runtime makes of the file. Raises InputError as `load` does."""
        from wdp_edge.targets.onnx.trace import trace

        return trace(path, threads, runs)

    def inspect(self, path: Path) -> Contents:
        """What is inside the artifact: operators as the file has them, before the runtime fuses any.

        Raises InputError as `load` does.
        """
        return contents(read(path))


def in_precision(
    graph: ModelProto, lowered: nn.Module, layers: list[str], options: ExportOptions, default: Observer
) -> ModelProto:
    """The float32 graph in the precision asked for. layers: those that integer precisions quantize."""
    from wdp_edge.targets.onnx import precisions

    if options.precision == Precision.FP16:
        return precisions.half(graph)
    if options.precision == Precision.INT8_DYNAMIC:
        return precisions.dynamic(graph, layers)
    if options.precision == Precision.INT8_STATIC and options.calibration is not None:
        from wdp_edge.calibration.ranges import input_and_output_ranges

        found = input_and_output_ranges(lowered, layers, options.calibration, options.observer or default)
        return precisions.static(graph, {name: ends[0] for name, ends in found.items()})
    return graph
