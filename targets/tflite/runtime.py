"""Runs and counts what is in a .tflite: through ai_edge_litert, or tflite_runtime where only that is installed.

Needs neither torch nor the converter until a tensor is given.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError, SetupError
from wdp_edge.protocols.target import Contents, OperatorCount, TensorInfo, WeightBytes
from wdp_edge.targets.shared.contents import AGAIN, COPY_AGAIN, stored_weights
from wdp_edge.targets.shared.quiet import quiet, silent_stderr
from wdp_edge.targets.tflite.file import FileRecord, GraphRecord, read_file

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

LITERT, LEGACY = "ai_edge_litert", "tflite_runtime"
PREFIX = "wdp_edge."  # of our entries in the file's metadata


def runtime() -> str | None:
    """The package that runs .tflite files here; None when there is none."""
    return next((name for name in (LITERT, LEGACY) if find_spec(name)), None)


class TFLiteProgram:
    """A loaded .tflite: see `wdp_edge.protocols.target.Program`."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter = interpreter(path, read_file(path), threads)
        entry, result = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self._input, self._output = int(entry["index"]), int(result["index"])
        self.input_shape = tuple(int(n) for n in entry["shape"])
        self.input_dtype = entry["dtype"].__name__

    def run(self, x: np.ndarray) -> np.ndarray:
        """x: [1, ...] of the file's type -> [1, classes] float32, an array of its own."""
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        result: np.ndarray = self._interpreter.get_tensor(self._output)
        return result

    def __call__(self, x: Tensor) -> Tensor:
        """x: [1, ...] of the file's type -> [1, classes] float32, a tensor of its own."""
        import torch

        return torch.from_numpy(self.run(x.numpy()))


def interpreter(path: Path, record: FileRecord, threads: int) -> Any:
    """The runtime's own interpreter, ready to run. record: what `read_file` gave for the path.

    Raises SetupError without a runtime, InputError for a file that it cannot run or would run wrongly.
    """
    name = runtime()
    if name is None:
        raise SetupError("There is no runtime for .tflite files.", "Install it with: pip install 'wdp-edge[tflite]'")
    if name == LEGACY and record.graphs[0].hybrid_per_channel():
        # No error there, only other logits: tests/targets/tflite/test_runtime.py has such a file.
        raise InputError(
            f"tflite_runtime computes {path} wrongly: its int8-dynamic weights have a scale per channel.",
            "Install ai-edge-litert, or export int8-static or int8-weight.",
        )
    with quiet(), silent_stderr() as said:
        try:
            loaded = import_module(f"{name}.interpreter").Interpreter(model_path=str(path), num_threads=threads)
            loaded.allocate_tensors()
        except (RuntimeError, ValueError, MemoryError) as error:
            reason = (str(error).strip() or said().strip() or repr(error)).splitlines()[-1].rstrip(".")
            raise InputError(f"{name} cannot load {path}: {reason}.", AGAIN) from error
    return loaded


def contents(path: Path) -> Contents:
    """See `Target.inspect`. Delegated is what the runtime's XNNPACK delegate takes when it loads the file here."""
    record = read_file(path)
    nodes: list[dict[str, Any]] = interpreter(path, record, threads=1)._get_ops_details()
    own = [n for n in nodes if n["op_name"] != "DELEGATE"]
    delegates = [n for n in nodes if n["op_name"] == "DELEGATE"]
    inside = delegated(own, delegates)
    total = Counter(n["op_name"] for n in own)
    taken = Counter(n["op_name"] for n in own if n["index"] in inside)
    graph = record.graphs[0]
    return Contents(
        inputs=tensors_of(graph, graph.inputs),
        outputs=tensors_of(graph, graph.outputs),
        operators=tuple(OperatorCount(kind, total[kind], taken[kind]) for kind in sorted(total)),
        weights=weights_of(record),
        delegates=len(delegates),
        metadata=metadata_of(path, record),
    )


def metadata_of(path: Path, record: FileRecord) -> dict[str, str]:
    """Our own entries. Raises InputError for one that is not text."""
    try:
        return {k.removeprefix(PREFIX): v.decode() for k, v in record.metadata.items() if k.startswith(PREFIX)}
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is damaged: its metadata is not text.", COPY_AGAIN) from error


def delegated(own: list[dict[str, Any]], delegates: list[dict[str, Any]]) -> set[int]:
    """Indices of the operators that run inside a delegate.

    The interpreter lists every operator of the file and every delegate, with their tensors. What a delegate replaced
    is what leads from its inputs to its outputs.
    """
    writer = {int(t): n for n in own for t in n["outputs"]}
    inside: set[int] = set()
    for delegate in delegates:
        known = {int(t) for t in delegate["inputs"]}
        open_tensors = [int(t) for t in delegate["outputs"]]
        while open_tensors:
            tensor = open_tensors.pop()
            if tensor in known or tensor not in writer:
                continue
            known.add(tensor)
            inside.add(writer[tensor]["index"])
            open_tensors.extend(int(t) for t in writer[tensor]["inputs"])
    return inside


def tensors_of(graph: GraphRecord, indices: tuple[int, ...]) -> tuple[TensorInfo, ...]:
    found = [graph.tensors[i] for i in indices]
    return tuple(TensorInfo(t.name, t.shape, t.dtype) for t in found)


def weights_of(record: FileRecord) -> tuple[WeightBytes, ...]:
    """Constants by number format; one that several tensors share counts once."""
    unique = {t.buffer: t for g in record.graphs for t in g.tensors if t.data}
    return tuple(sorted(stored_weights((t.dtype, t.data) for t in unique.values()), key=lambda w: w.dtype))
