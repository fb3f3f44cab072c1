"""Running .pte files with ExecuTorch's own runtime."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError
from wdp_edge.targets.hush import quiet, silent_stderr

if TYPE_CHECKING:
    from torch import Tensor

METHOD = "forward"
AGAIN = "Export it again with wdp-edge export."
# ExecuTorch's numbers of scalar types, as numpy calls them.
DTYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}
HEADER = struct.Struct("<4s4s4sIQQQ")  # root offset, file identifier, then the extended header


class PteProgram:
    """A loaded .pte: see `wdp_edge.target.Program`."""

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


def open_program(path: Path, threads: int = 1) -> Any:
    """The program, its structure verified, nothing of it set up to run yet.

    Raises InputError when the file is missing, cut short, damaged, or not a .pte.
    """
    check_file(path)
    with quiet(), silent_stderr() as said:
        # executorch.runtime is a thin layer over this, but imports the exporter: 3 s for every worker.
        from executorch.extension.pybindings import _C

        _C._unsafe_reset_threadpool(threads)
        try:
            return _C._load_program(str(path), program_verification=_C.Verification.InternalConsistency)
        except (RuntimeError, MemoryError) as error:
            raise not_loaded(path, said(), error) from error


def check_delegates(path: Path) -> None:
    """Raises InputError when the file needs a delegate that the runtime here has not got."""
    from executorch.extension.pybindings import _C

    from wdp_edge.targets.executorch_file import read

    needed = {delegate["id"] for delegate in read(path).plan["delegates"]}
    if lacking := sorted(needed - set(_C._get_registered_backend_names())):
        raise InputError(
            f"{path} needs {', '.join(lacking)}, which ExecuTorch has not got on this system.",
            "Use the target that made it: executorch-coreml for CoreMLBackend.",
        )


def not_loaded(path: Path, said: str, error: Exception) -> InputError:
    reason = (said or str(error)).strip().splitlines()[-1]
    return InputError(f"ExecuTorch cannot load {path}: {reason}.", AGAIN)


def check_file(path: Path) -> None:
    """Raises InputError unless the file has a .pte header and every byte that the header promises.

    The runtime trusts these sizes: it would read beyond the end of a file that was cut short.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist.", "Check the path, or export it with wdp-edge export.")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or head[4:6] != b"ET" or head[8:12] != b"eh00":
        raise InputError(f"{path} is not an ExecuTorch program.", "Give a .pte that wdp-edge export wrote.")
    *_, program_bytes, segments_at, segments_bytes = HEADER.unpack(head)
    expected = segments_at + segments_bytes if segments_at else program_bytes
    if size < max(expected, program_bytes):
        raise InputError(
            f"{path} is cut short: {size} bytes of {max(expected, program_bytes)}.",
            "Copy it again, or export it again with wdp-edge export.",
        )
