"""Core ML packages as callables: through Core ML itself on macOS, through our evaluator everywhere else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import TensorInfo
from wdp_edge.targets.coreml.mil_program import MilProgram, UnsupportedProgram, load_function
from wdp_edge.targets.coreml.package import Package
from wdp_edge.targets.shared.contents import AGAIN
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

_DTYPES = {65552: "float16", 65568: "float32", 131104: "int32"}  # Core ML's numbers of array types
_CHANNELS = 3


class EvaluatedProgram:
    """A package run by the evaluator: see `wdp_edge.protocols.target.Program`.

    Raises InputError for a package that is damaged, or that holds operators which the evaluator does not know.
    """

    def __init__(self, package: Package, threads: int) -> None:
        self.input_shape, self.input_dtype = only_input(package)
        torch.set_num_threads(threads)
        with quiet(), silent_stderr():
            try:
                self._program = MilProgram(load_function(package))
            except UnsupportedProgram as error:
                raise InputError(
                    f"{package.path} uses operators that the evaluator does not support: {error}.",
                    "Load it on macOS, where Core ML itself runs it.",
                ) from error
            except Exception as error:  # the toolkit's loader has no error of its own for a program that makes no sense
                raise InputError(f"{package.path} is damaged: {type(error).__name__} {error}.", AGAIN) from error

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32."""
        return self._program(x.float())[0].float()


class CoreMLProgram:
    """A package run by Core ML, on macOS: see `wdp_edge.protocols.target.Program`. Core ML chooses its threads itself.

    Not tested against Core ML: the project's tests run on Linux, where only the data's way in and out is checked.
    """

    def __init__(self, package: Package) -> None:
        self.input_shape, self.input_dtype = only_input(package)
        self._input, self._output = (str(d[0].name) for d in (described(package).input, described(package).output))
        with quiet(), silent_stderr() as said:
            import coremltools

            try:
                self._model = coremltools.models.MLModel(str(package.path))
            except Exception as error:  # Core ML's own errors arrive as several types
                reason = (said() or str(error)).strip().splitlines()[-1]
                raise InputError(f"Core ML cannot load {package.path}: {reason}.", AGAIN) from error

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32."""
        given = to_picture(x) if self.input_dtype == "uint8" else x.numpy()
        return torch.from_numpy(self._model.predict({self._input: given})[self._output]).float()


def to_picture(x: Tensor) -> Any:
    """x: [1, 3, H, W] uint8 -> a PIL image, as Core ML takes its image inputs."""
    from PIL import Image

    return Image.fromarray(x[0].permute(1, 2, 0).contiguous().numpy())


def described(package: Package) -> Any:
    return package.model.description


def only_input(package: Package) -> tuple[tuple[int, ...], str]:
    """Shape and type of the one input. Raises InputError when there are several, or several outputs."""
    inputs, outputs = inputs_of(package), outputs_of(package)
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"{package.path} has {len(inputs)} inputs and {len(outputs)} outputs.",
            "Give a .mlpackage that wdp-edge export wrote: it has one of each.",
        )
    return inputs[0].shape, inputs[0].dtype


def inputs_of(package: Package) -> tuple[TensorInfo, ...]:
    return tuple(tensor_info(d) for d in described(package).input)


def outputs_of(package: Package) -> tuple[TensorInfo, ...]:
    return tuple(tensor_info(d) for d in described(package).output)


def tensor_info(description: Any) -> TensorInfo:
    """An input or output; images are uint8 pixels, [1, 3, H, W]."""
    kind = description.type
    if kind.WhichOneof("Type") == "imageType":
        return TensorInfo(description.name, (1, _CHANNELS, kind.imageType.height, kind.imageType.width), "uint8")
    array = kind.multiArrayType
    return TensorInfo(description.name, tuple(int(n) for n in array.shape), _DTYPES.get(array.dataType, "unknown"))
