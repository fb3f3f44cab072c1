"""ExecuTorch with the XNNPACK delegate: .pte files."""

from __future__ import annotations

import struct
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.files import atomic_path
from wdp_edge.target import Artifact, ExportOptions, Observer, Precision, check_options
from wdp_edge.targets.hush import cheap_provenance, quiet, silent_stderr

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.fx import Node

_STEPS = 5
_DTYPES = {0: "uint8", 6: "float32"}  # ExecuTorch's numbers of scalar types
_HEADER = struct.Struct("<4s4s4sIQQQ")  # root offset, file identifier, then the extended header
_UNQUANTIZED = "LoweredNorm"
_SCALE_FLOOR = 2.0**-30


class ExecuTorchTarget:
    """The target `executorch`.

    hidden_multiple: XNNPACK's kernels write 16 channels at once with AVX-512 and 8 on Arm cores, so a width
    that is no multiple of 16 pays for the next one (docs/lowering.md).
    """

    name = "executorch"
    suffix = ".pte"
    precisions = (Precision.FP32, Precision.INT8_DYNAMIC, Precision.INT8_STATIC)
    default_precision = Precision.INT8_DYNAMIC
    observers = (Observer.MSE,)
    hidden_multiple = 16

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

        from wdp_edge.targets.lowering import lower

        check_options(self, options)
        precision, calibration = options.precision, options.calibration
        if precision is Precision.INT8_STATIC and calibration is None:
            raise InputError("int8-static needs calibration images.", "Give training images, or use int8-dynamic.")
        title = f"export {precision.value}"
        with progress.task(title, _STEPS) as advance, quiet(), cheap_provenance(), torch.no_grad():
            lowered = lower(model)
            advance(1)
            program = torch.export.export(lowered, (example,))
            advance(1)
            if precision is not Precision.FP32:
                program = quantize(program, example, precision, calibration)
            advance(1)
            edge = to_edge(program)
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
        check_file(path)
        return PteProgram(path, threads)


class PteProgram:
    """A loaded .pte: see `wdp_edge.target.Program`."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        with quiet(), silent_stderr() as said:
            import executorch.kernels.quantized  # noqa: F401  (registers the operators of int8 files)

            # executorch.runtime is a thin layer over this, but imports the exporter: 3 s for every worker.
            from executorch.extension.pybindings import _C

            torch.set_num_threads(threads)
            _C._unsafe_reset_threadpool(threads)
            try:
                self._program = _C._load_program(str(path), program_verification=_C.Verification.InternalConsistency)
                self._method: Any = self._program.load_method("forward")
                meta = self._method.method_meta().input_tensor_meta(0)
                self.input_shape = tuple(int(n) for n in meta.sizes())
                self.input_dtype = _DTYPES.get(int(meta.dtype()), "unknown")
            except (RuntimeError, MemoryError) as error:
                reason = (said() or str(error)).strip().splitlines()[-1]
                raise InputError(
                    f"ExecuTorch cannot load {path}: {reason}.", "Export it again with wdp-edge export."
                ) from error

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] -> [1, classes] float32, a tensor of its own."""
        return self._method([x.contiguous()])[0].clone()


def check_file(path: Path) -> None:
    """Raises InputError unless the file has a .pte header and every byte that the header promises.

    The runtime trusts these sizes: it would read beyond the end of a file that was cut short.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.", "Check the path, or export it with wdp-edge export.")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[4:6] != b"ET" or head[8:12] != b"eh00":
        raise InputError(f"{path} is not an ExecuTorch program.", "Give a .pte that wdp-edge export wrote.")
    *_, program_bytes, segments_at, segments_bytes = _HEADER.unpack(head)
    expected = segments_at + segments_bytes if segments_at else program_bytes
    if size < max(expected, program_bytes):
        raise InputError(
            f"{path} is cut short: {size} bytes of {max(expected, program_bytes)}.",
            "Copy it again, or export it again with wdp-edge export.",
        )


def quantize(
    program: ExportedProgram, example: Tensor, precision: Precision, calibration: Tensor | None
) -> ExportedProgram:
    """int8 linear layers, weights per channel; the patch embedding too when activations are static.

    The attention's own products stay float32: quantizing them costs accuracy and hardly saves time.
    """
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    dynamic = precision is Precision.INT8_DYNAMIC
    config = quantization_config(dynamic)
    quantizer = XNNPACKQuantizer().set_filter_function(is_quantizable)
    quantizer.set_operator_type(torch.ops.aten.linear.default, config)
    if not dynamic:
        quantizer.set_operator_type(torch.ops.aten.conv2d.default, config)
    prepared = prepare_pt2e(program.module(), quantizer)
    for image in [example] if dynamic or calibration is None else calibration.split(1):
        prepared(image)
    return torch.export.export(convert_pt2e(prepared), (example,))


def quantization_config(dynamic: bool) -> Any:
    """XNNPACK's symmetric int8 configuration, without its floor of 2^-12 under the scales.

    With LayerScale folded in, `proj` and `fc2` have weights so small that the floor would round them to zero.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    weights = PerChannelMinMaxObserver.with_args(eps=_SCALE_FLOOR)
    config = replace(config, weight=replace(config.weight, observer_or_fake_quant_ctr=weights))
    if dynamic:
        return config
    seen = replace(config.input_activation, observer_or_fake_quant_ctr=HistogramObserver.with_args(eps=_SCALE_FLOOR))
    return replace(config, input_activation=seen, output_activation=seen)


def is_quantizable(node: Node) -> bool:
    """Whether a node may be quantized: the mean of squares inside a norm may not."""
    modules = node.meta.get("nn_module_stack", {}).values()
    return not any(_UNQUANTIZED in str(kind) for _, kind in modules)


def to_edge(program: ExportedProgram) -> Any:
    """The program with everything XNNPACK takes inside its delegate (EdgeProgramManager).

    Skipped: checks of the graph after every pass, and operators for memory layouts that no ViT has. The file is the
    same to the byte, in a third less time together with the non-strict capture; every artifact is run and compared
    with its model anyway.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    config = EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True)
    return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], compile_config=config)
