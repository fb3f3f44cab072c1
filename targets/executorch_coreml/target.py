"""ExecuTorch with the Core ML delegate: .pte files for Apple's devices."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.io.files import atomic_path
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Contents, ExportOptions, Observer, OperatorCount, Program, check_options
from wdp_edge.targets.executorch.runtime import PteProgram
from wdp_edge.targets.shared.quiet import cheap_provenance, paused_collection, quiet, silent_stderr

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wdp_edge.targets.coreml.package import Package
    from wdp_edge.targets.executorch.file import PteFile

COREML = "CoreMLBackend"
_STEPS = 3
_CASTS = ("aten._to_copy.default", "_to_copy.default")  # Core ML has no uint8 tensors: pixels are cast before
_CAST_KERNEL = "aten::_to_copy"
_INT8 = {"mode": "linear_symmetric", "dtype": "int8", "granularity": "per_channel", "weight_threshold": 512}


class ExecuTorchCoreMLTarget:
    """The target `executorch-coreml`: iOS 18, macOS 15 and later. mlp_width_multiple: as for `coreml`."""

    name = "executorch-coreml"
    suffix = ".coreml.pte"
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8_WEIGHT)
    default_precision = Precision.INT8_WEIGHT
    observers: tuple[Observer, ...] = ()
    mlp_width_multiple = 32

    def timed_here(self) -> bool:
        return sys.platform == "darwin"

    def missing(self) -> list[str]:
        needed = {"executorch": "executorch>=1.5.1,<1.6", "coremltools": "coremltools>=9.0,<10"}
        return [requirement for package, requirement in needed.items() if not find_spec(package)]

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("executorch", "coremltools", "torch", "wdp-edge")}

    def export(self, model: nn.Module, example: Tensor, path: Path, options: ExportOptions) -> Artifact:
        """Writes the .pte, atomically.

        model: a timm ViT (or any module), not modified. example: [1, ...].
        Raises InputError for what the target cannot do: the delegate compresses all weights or none.
        """
        import torch

        from wdp_edge.lowering.vit import lower

        check_options(self, options)
        if options.keep_float and options.precision == Precision.INT8_WEIGHT:
            raise InputError(
                f"'{self.name}' cannot keep individual layers in float: its delegate compresses all weights or none.",
                "Use the target coreml, or fp16.",
            )
        title = f"export {options.precision}"
        with progress.task(title, _STEPS) as advance, toolkits_hushed(), torch.no_grad():
            program = torch.export.export(lower(model, norms="native"), (example.contiguous(),))
            advance(1)
            edge = to_edge(program, options)
            advance(1)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                edge.to_executorch().write_to_file(file)
            advance(1)
        return Artifact.of(path, self.name, options.precision)

    def load(self, path: Path, threads: int) -> Program:
        """The artifact in ExecuTorch on macOS; elsewhere the Core ML program in it, run by the evaluator.

        Raises InputError when the file is missing, cut short, damaged or not one of ours.
        """
        return PteProgram(path, threads) if self.timed_here() else EvaluatedPte(path, threads)

    def inspect(self, path: Path) -> Contents:
        """What is inside the artifact; operators in the Core ML delegate have MIL's names."""
        from wdp_edge.targets.coreml.package import weights_of
        from wdp_edge.targets.executorch.file import kernel_calls, metadata_of, read, tensors

        file = read(path)
        plan = file.plan
        outside = Counter(kernel_calls(plan))
        with embedded(file) as package:
            inside = Counter(o.type for o in package.operations if not o.type.startswith("const"))
            weights = weights_of(package)
        return Contents(
            inputs=tuple(tensors(plan, plan["inputs"], "input")),
            outputs=tuple(tensors(plan, plan["outputs"], "output")),
            operators=tuple(OperatorCount(k, n, inside[k]) for k, n in (inside + outside).most_common()),
            weights=weights,
            delegates=len(plan["delegates"]),
            metadata=metadata_of(file),
        )


class EvaluatedPte:
    """A .pte whose Core ML program our evaluator runs: see `wdp_edge.protocols.target.Program`.

    ExecuTorch's runtime has the Core ML delegate on Apple's systems only. What runs here is the package that the file
    holds; ExecuTorch's own part, which hands the input over, is checked to do nothing but that and a cast of pixels.
    """

    def __init__(self, path: Path, threads: int) -> None:
        from wdp_edge.targets.coreml.runtime import EvaluatedProgram
        from wdp_edge.targets.executorch.file import kernel_calls, read, tensors

        file = read(path)
        if set(kernel_calls(file.plan)) - {_CAST_KERNEL}:
            raise InputError(
                f"{path} runs operators outside Core ML, which only ExecuTorch on an Apple system can do.",
                "Load it on macOS.",
            )
        with embedded(file) as package:
            self._program = EvaluatedProgram(package, threads)
        given = next(tensors(file.plan, file.plan["inputs"], "input"))
        self.input_shape, self.input_dtype = given.shape, given.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32."""
        return self._program(x)


def to_edge(program: Any, options: ExportOptions) -> Any:
    """The exported program with all that Core ML takes inside its delegate (EdgeProgramManager)."""
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    from wdp_edge.targets.executorch.edge import METADATA_PREFIX

    half = options.precision != Precision.FP32
    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
        op_linear_quantizer_config=_INT8 if options.precision == Precision.INT8_WEIGHT else None,
    )
    partitioner = CoreMLPartitioner(compile_specs=specs, skip_ops_for_coreml_delegation=list(_CASTS))
    methods = {METADATA_PREFIX + key: text for key, text in options.metadata.items()}
    return to_edge_transform_and_lower(
        program,
        partitioner=[partitioner],
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        constant_methods=methods or None,
    )


@contextmanager
def toolkits_hushed() -> Iterator[None]:
    with quiet(), silent_stderr(), cheap_provenance(), paused_collection():
        yield


@contextmanager
def embedded(file: PteFile) -> Iterator[Package]:
    """The Core ML package in a .pte, unpacked as long as the block lasts.

    Raises InputError unless the file has exactly one delegate, Core ML's.
    """
    from wdp_edge.targets.coreml.package import read_package
    from wdp_edge.targets.executorch_coreml.delegate import unpack

    delegates = file.plan["delegates"]
    if [d["id"] for d in delegates] != [COREML]:
        raise InputError(
            f"{file.path} is not one Core ML program inside ExecuTorch.",
            "Give a .pte that wdp-edge export --target executorch-coreml wrote.",
        )
    with tempfile.TemporaryDirectory() as folder:
        unpack(file.delegate_bytes(delegates[0]), Path(folder), file.path)
        yield read_package(Path(folder) / "model.mlpackage")
