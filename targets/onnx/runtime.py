"""Running .onnx files with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError
from wdp_edge.targets.onnx.file import NO_TEXT, read, unsound
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

if TYPE_CHECKING:
    from torch import Tensor

_INPUT_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
_FATAL = 4


class ONNXProgram:
    """A loaded .onnx: see `wdp_edge.protocols.target.Program`."""

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
