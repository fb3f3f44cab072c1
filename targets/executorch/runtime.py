"""Running .pte files with ExecuTorch's own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError
from wdp_edge.targets.executorch.file import METHOD, not_loaded, open_program, read
from wdp_edge.targets.shared.quiet import quiet, silent_stderr

if TYPE_CHECKING:
    from torch import Tensor

# ExecuTorch's numbers of scalar types, as numpy calls them.
DTYPES = dict(enumerate(("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"))) | {11: "bool"}


class PteProgram:
    """A loaded .pte: see `wdp_edge.protocols.target.Program`."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        with quiet(), silent_stderr() as said:
            import executorch.kernels.quantized  # noqa: F401  (registers the operators of int8 files)

            torch.set_num_threads(threads)
            self._program = open_program(path, threads)
            try:
                self._method: Any = self._program.load_method(METHOD)
                meta = self._method.method_meta().input_tensor_meta(0)
            except (RuntimeError, MemoryError, IndexError) as error:
                check_delegates(path)
                raise not_loaded(path, said(), error) from error
        self.input_shape = tuple(int(n) for n in meta.sizes())
        self.input_dtype = DTYPES.get(int(meta.dtype()), "unknown")

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32, a tensor of its own."""
        return self._method([x.contiguous()])[0].clone()


def check_delegates(path: Path) -> None:
    """Raises InputError when the file needs a delegate that the runtime here does not have."""
    from executorch.extension.pybindings import _C

    needed = {delegate["id"] for delegate in read(path).plan["delegates"]}
    if lacking := sorted(needed - set(_C._get_registered_backend_names())):
        raise InputError(
            f"{path} needs {', '.join(lacking)}, which ExecuTorch does not have on this system.",
            "Use the target that made it: executorch-coreml for CoreMLBackend.",
        )
