"""What files give for the fixed input of the native runners, in their target's own runtime here.

A device's outputs are compared with it: a wrong result cannot pass as a fast one. `python -m` runs the worker.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from wdp_edge.devices.events import OutputDigest
from wdp_edge.workers.messages import serve, write_message
from wdp_edge.workers.process import WorkerProcess

_MODULE = "wdp_edge.devices.reference"
_FIRST = 16

# Kernels of other CPUs round differently, most in int8-dynamic: a trained DINOv2-S gave a cosine of 0.9997 and sums
# 0.6 % apart between x86 and Arm. A graph that a kernel or a converter got wrong gave 0.88. These lie between.
MIN_COSINE = 0.99
MAX_SUM_ERROR = 0.05


@dataclass(frozen=True)
class ExpectedOutput:
    """What a file must do on a device: its input as its runtime here sees it, and its output for the fixed input."""

    input: tuple[int, ...]
    dtype: str
    output: OutputDigest


def expected_outputs(target: str, paths: Sequence[Path]) -> list[ExpectedOutput]:
    """One for each file, made in a worker process.

    Raises InputError for a file that is not a sound artifact of `target`, SetupError when the worker crashes.
    """
    request = {
        "what": f"running {', '.join(p.name for p in paths)}",
        "target": target,
        "artifacts": [str(p) for p in paths],
    }
    with WorkerProcess(_MODULE, request, imports=("torch",)) as worker:
        replies = [worker.receive()[0] for _ in paths]
    digests = [OutputDigest(r["abs_sum"], tuple(r["first"]), r["count"]) for r in replies]
    return [ExpectedOutput(tuple(r["input"]), r["dtype"], d) for r, d in zip(replies, digests, strict=True)]


def difference(got: OutputDigest, reference: OutputDigest) -> str:
    """How an output differs from the reference by more than another CPU's kernels explain; "" when it does not."""
    if got.count != reference.count:
        return f"{got.count} values instead of {reference.count}"
    cosine = _cosine(got.first, reference.first)
    if not cosine >= MIN_COSINE:
        return f"cosine {cosine:.3f} to the result here"
    error = abs(got.abs_sum - reference.abs_sum)
    if not error <= MAX_SUM_ERROR * reference.abs_sum:
        return f"absolute values sum to {got.abs_sum:.4g} instead of {reference.abs_sum:.4g}"
    return ""


def fixed_input(count: int, dtype: str) -> bytes:
    """`count` values of the generator that the runners use too (contract.h), of numpy's `dtype`."""
    state = 1
    states = []
    for _ in range(count):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        states.append(state)
    if dtype == "uint8":
        return bytes(s >> 24 for s in states)
    return array("f", ((s >> 8) / 8388608 - 1 for s in states)).tobytes()


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """1 for two that are all zero, 0 when only one is."""
    size = math.hypot(*a) * math.hypot(*b)
    if size == 0:
        return float(not any(a) and not any(b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / size


def _run(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    """The worker's part: one message for each file."""
    import torch

    from wdp_edge.protocols.target import get_target

    torch.set_grad_enabled(False)
    target = get_target(request["target"])
    for path in request["artifacts"]:
        program = target.load(Path(path), 1)
        data = fixed_input(math.prod(program.input_shape), program.input_dtype)
        image = torch.frombuffer(bytearray(data), dtype=getattr(torch, program.input_dtype))
        values = program(image.reshape(program.input_shape)).double().flatten()
        said = {"abs_sum": float(values.abs().sum()), "first": values[:_FIRST].tolist(), "count": values.numel()}
        write_message(replies, {"input": list(program.input_shape), "dtype": program.input_dtype, **said})


def main() -> None:
    serve(_run)


if __name__ == "__main__":
    main()
