"""Core ML: .mlpackage folders with an ML program."""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.io.files import atomic_folder
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Contents, ExportOptions, Observer, OperatorCount, Program, check_options
from wdp_edge.targets.shared.quiet import paused_collection, quiet, silent_stderr
from wdp_edge.targets.shared.reuse import LastConversion

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

INPUT = "image"
_NEEDED = "coremltools>=9.0,<10"
_STEPS = 4
_TOOLKIT = "com.github.apple.coremltools."  # what the toolkit itself notes in a package begins so
_CHANNELS = 3


class CoreMLTarget:
    """The target `coreml`: iOS 18, macOS 15 and later, which 4-bit blocks and grouped palettes need.

    mlp_width_multiple: the Neural Engine lays the last axis out in steps of 64 bytes, which are 32 numbers of fp16;
    int4 shares a scale between 32 inputs as well. Taken from Apple's documents, not measured.
    """

    name = "coreml"
    suffix = ".mlpackage"
    precisions: tuple[Precision, ...] = (
        Precision.FP32,
        Precision.FP16,
        Precision.INT8_WEIGHT,
        Precision.INT4_WEIGHT,
        Precision.PALETTE4,
        Precision.PALETTE6,
        Precision.PALETTE8,
        Precision.W8A8,
    )
    default_precision = Precision.INT8_WEIGHT
    observers: tuple[Observer, ...] = (Observer.MSE, Observer.PERCENTILE, Observer.MINMAX)
    mlp_width_multiple = 32

    def __init__(self) -> None:
        self._converted: LastConversion[Any] = LastConversion()

    def timed_here(self) -> bool:
        return sys.platform == "darwin"

    def missing(self) -> list[str]:
        return [] if find_spec("coremltools") else [_NEEDED]

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("coremltools", "torch", "wdp-edge")}

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        """Writes the .mlpackage, atomically.

        model: a timm ViT (or any module), not modified. example: [1, ...] float32, or [1, 3, H, W] uint8: then the
        package takes an RGB image, which an app hands over as it comes from the camera.
        Raises InputError for what the target cannot do, and when w8a8 gets no calibration images.
        """
        import torch

        from wdp_edge.lowering.vit import check_kept, lower, output_name
        from wdp_edge.targets.coreml.precisions import compress, quantize_inputs

        check_options(self, options)
        check_example(example)
        lowered = lower(model, norms="native")
        check_kept(lowered, options.keep_float)
        if options.precision == Precision.W8A8:
            if options.calibration is None:
                raise InputError("w8a8 needs calibration images.", "Give training images, or use int8-weight.")
            observer = options.observer or self.observers[0]
            quantize_inputs(lowered, options.calibration.float(), observer, options.keep_float)
        with (
            progress.task(f"export {options.precision}", _STEPS) as advance,
            quiet(),
            paused_collection(),
            torch.no_grad(),
        ):
            program = torch.export.export(lowered, (example.float().contiguous(),)).run_decompositions({})
            advance(1)
            with silent():
                converted = self._converted.get(
                    program,
                    lambda: convert(program, example, options.precision, output_name(lowered)),
                    f"{example.dtype} {in_float32(options.precision)}",
                )
            advance(1)
            with silent():
                small = compress(converted, options.precision, weights_to_compress(program, lowered, options))
            advance(1)
            describe(small, example, options, output_name(lowered))
            with atomic_folder(path) as temporary, silent():
                small.save(str(temporary))
            advance(1)
        return Artifact.of(path, self.name, options.precision)

    def load(self, path: Path, threads: int) -> Program:
        """The artifact in Core ML on macOS; elsewhere in the evaluator, which computes what the package says.

        Raises InputError when the package is missing, cut short, damaged or not one of ours.
        """
        from wdp_edge.targets.coreml.package import read_package
        from wdp_edge.targets.coreml.runtime import CoreMLProgram, EvaluatedProgram

        package = read_package(path)
        return CoreMLProgram(package) if self.timed_here() else EvaluatedProgram(package, threads)

    def inspect(self, path: Path) -> Contents:
        """What is inside the package. Core ML decides at load time what runs where, so nothing counts as delegated."""
        from wdp_edge.targets.coreml.package import read_package, weights_of
        from wdp_edge.targets.coreml.runtime import inputs_of, outputs_of

        package = read_package(path)
        kinds = Counter(o.type for o in package.operations if not o.type.startswith("const"))
        noted = package.model.description.metadata.userDefined
        return Contents(
            inputs=inputs_of(package),
            outputs=outputs_of(package),
            operators=tuple(OperatorCount(kind, count, 0) for kind, count in kinds.most_common()),
            weights=weights_of(package),
            delegates=0,
            metadata={k: v for k, v in noted.items() if not k.startswith(_TOOLKIT)},
        )


def check_example(example: Tensor) -> None:
    """Raises InputError for pixels that are not an RGB image: Core ML has no arrays of uint8."""
    import torch

    if example.dtype == torch.uint8 and (example.ndim != 4 or example.shape[1] != _CHANNELS):
        raise InputError(
            f"Core ML takes uint8 only as RGB images, not as {list(example.shape)}.", "Give [1, 3, H, W] or float32."
        )


def in_float32(precision: Precision) -> bool:
    """Whether the program computes in float32; all others compute in fp16, which the Neural Engine needs."""
    return precision == Precision.FP32


@contextmanager
def silent() -> Iterator[None]:
    """Keeps the toolkit's progress bars off stderr, also where Python's stderr is not the process's own."""
    with silent_stderr(), redirect_stderr(io.StringIO()):
        yield


def convert(program: ExportedProgram, example: Tensor, precision: Precision, output: str) -> Any:
    """The exported program in Core ML's form (MLModel).

    Raises InputError when the converter does not know an operator of the model.
    """
    import coremltools as ct
    import numpy as np
    import torch

    image = ct.TensorType(INPUT, tuple(example.shape), np.float32)
    if example.dtype == torch.uint8:
        image = ct.ImageType(INPUT, tuple(example.shape), color_layout=ct.colorlayout.RGB)
    computed = ct.precision.FLOAT32 if in_float32(precision) else ct.precision.FLOAT16
    try:
        return ct.convert(
            program,
            inputs=[image],
            outputs=[ct.TensorType(output, dtype=np.float32)],
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=computed,
            skip_model_load=True,
        )
    except NotImplementedError as error:
        raise InputError(f"Core ML cannot express this model: {error}", "Use another target for it.") from error


def weights_to_compress(program: ExportedProgram, lowered: nn.Module, options: ExportOptions) -> Iterator[Any]:
    """Weights of the layers that integer precisions quantize, as the converter calls their constants."""
    from wdp_edge.lowering.vit import matches, quantized_layers
    from wdp_edge.targets.coreml.precisions import Weight

    suffix = "" if in_float32(options.precision) else "_to_fp16"
    layers = {f"{n}.weight" for n in quantized_layers(lowered) if not matches(n, options.keep_float)}
    for placeholder, name in program.graph_signature.inputs_to_parameters.items():
        if name in layers:
            yield Weight(placeholder + suffix, tuple(program.state_dict[name].shape))


def describe(model: Any, example: Tensor, options: ExportOptions, output: str) -> None:
    """Writes metadata and descriptions into the converted model (MLModel)."""
    import torch

    noted = model.user_defined_metadata
    for key in [k for k in noted if not k.startswith(_TOOLKIT)]:
        del noted[key]
    noted.update(options.metadata)
    pixels = example.dtype == torch.uint8
    classifies = output == "logits"
    model.short_description = f"Image {'classifier' if classifies else 'embedding'}, {options.precision}"
    model.input_description[INPUT] = "RGB image" if pixels else "Normalised image, [1, 3, H, W]"
    model.output_description[output] = "One value per class, before softmax" if classifies else "The image's embedding"
