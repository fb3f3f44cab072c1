"""ONNX for ONNX Runtime: .onnx files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.files import atomic_path
from wdp_edge.target import Artifact, Contents, ExportOptions, Observer, OperatorTime, Precision, check_options
from wdp_edge.targets.hush import cheap_provenance, quiet, silent_stderr
from wdp_edge.targets.onnx_file import NO_TEXT, contents, read, unsound
from wdp_edge.targets.reuse import LastConversion

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

    from wdp_edge.calibration.fake_quant import Scheme

_STEPS = 4
_REQUIREMENTS = {"onnx": "onnx>=1.19,<2", "onnxscript": "onnxscript>=0.7,<0.8", "onnxruntime": "onnxruntime>=1.23,<2"}
_INPUT_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
_FATAL = 4


class ONNXTarget:
    """The target `onnx`.

    hidden_multiple: int8 kernels write 16 channels at once with AVX-512; what lies between costs about one per cent.
    """

    name = "onnx"
    suffix = ".onnx"
    precisions: tuple[Precision, ...] = (Precision.FP32, Precision.FP16, Precision.INT8_DYNAMIC, Precision.INT8_STATIC)
    default_precision = Precision.INT8_DYNAMIC
    observers: tuple[Observer, ...] = (Observer.MSE, Observer.MINMAX, Observer.PERCENTILE)
    hidden_multiple = 16
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

        from wdp_edge.targets.lowering import check_kept, lower, matches, output_name, quantized_layers
        from wdp_edge.targets.onnx_graph import forget_origins, to_onnx

        check_options(self, options)
        if options.precision is Precision.INT8_STATIC and options.calibration is None:
            raise InputError("int8-static needs calibration images.", "Give training images, or use int8-dynamic.")
        title = f"export {options.precision.value}"
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
        from wdp_edge.targets.onnx_rounding import has_half, rounded

        model = read(path)
        return ONNXProgram(path, threads, rounded(model).SerializeToString() if has_half(model) else None)

    def trace(self, path: Path, threads: int, runs: int) -> list[OperatorTime]:
        """Times of the operators that the runtime makes of the file. Raises InputError as `load` does."""
        from wdp_edge.targets.onnx_trace import trace

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
    from wdp_edge.targets import onnx_quantize

    if options.precision is Precision.FP16:
        return onnx_quantize.half(graph)
    if options.precision is Precision.INT8_DYNAMIC:
        return onnx_quantize.dynamic(graph, layers)
    if options.precision is Precision.INT8_STATIC and options.calibration is not None:
        from wdp_edge.calibration.ranges import input_and_output_ranges

        found = input_and_output_ranges(lowered, layers, options.calibration, options.observer or default)
        return onnx_quantize.static(graph, {name: ends[0] for name, ends in found.items()})
    return graph


class ONNXProgram:
    """A loaded .onnx: see `wdp_edge.target.Program`."""

    def __init__(self, path: Path, threads: int, model: bytes | None = None) -> None:
        """model: what to run in place of the file."""
        if model is None:
            read(path)  # the runtime alone runs more files, and not as they say
        self._session = session(path, threads, model=model)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(outputs) != 1 or not all(isinstance(n, int) for n in shape):
            raise InputError(
                f"{path} does not take one image of a fixed size and give one result.",
                "Give a .onnx that wdp-edge export wrote.",
            )
        if inputs[0].type not in _INPUT_DTYPES:
            raise InputError(
                f"{path} takes a {inputs[0].type}, not pixels or normalised pixels.",
                "Give a .onnx that wdp-edge export wrote.",
            )
        self._name = inputs[0].name
        self.input_shape = tuple(int(n) for n in shape)
        self.input_dtype = _INPUT_DTYPES[inputs[0].type]

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] -> [1, classes] float32, a tensor of its own."""
        import torch

        return torch.from_numpy(self._session.run(None, {self._name: x.contiguous().numpy()})[0])


def session(path: Path, threads: int, profile: str | None = None, model: bytes | None = None) -> Any:
    """The runtime's session for a file, or for `model` in its place. profile: where the runtime's profiler writes, if
    it is to.

    Raises InputError when it refuses the file.
    """
    with quiet(), silent_stderr():
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # A thread that spins between operators takes the core from whatever else runs, and its time with it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _FATAL
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, profile
        try:
            return ort.InferenceSession(model or str(path), options, providers=["CPUExecutionProvider"])
        except UnicodeDecodeError as error:  # its message quotes the file's own bytes
            raise unsound(path, NO_TEXT) from error
        except Exception as error:
            # The runtime's errors share no base class but are all made in one module.
            if type(error).__module__ != "onnxruntime.capi.onnxruntime_pybind11_state":
                raise
            raise unsound(path, str(error).rpartition(" : ")[2]) from error
