"""The toy's runner: times .pt2 files on a device. In Python, so it runs where this machine's PyTorch is.

`python runner.py --threads N --rounds R --runs K --warmup W --settle S [--cpus 0,1] FILE...` says what wdp-edge's
reference page of runners describes, one JSON object a line. A real target has a program here that needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch


def main() -> None:
    words = argparse.ArgumentParser()
    for name in ("threads", "rounds", "runs", "warmup", "settle"):
        words.add_argument(f"--{name}", type=int, required=True)
    words.add_argument("--cpus", default="")
    words.add_argument("files", nargs="+")
    asked = words.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(asked.threads)
    if asked.cpus:
        os.sched_setaffinity(0, [int(cpu) for cpu in asked.cpus.split(",")])
    loaded = [load(path) for path in asked.files]
    files = [{"load_ms": ms, "input": list(x.shape), "dtype": str(x.dtype)[len("torch.") :]} for _, x, ms in loaded]
    say(event="loaded", runtime=f"torch {torch.__version__}", threads=asked.threads, files=files)
    for number in range(asked.rounds):
        # Every second round goes backwards, so that drift within a round cancels.
        order = range(len(loaded)) if number % 2 == 0 else reversed(range(len(loaded)))
        times = {place: timed(*loaded[place][:2], asked) for place in order}
        say(event="round", number=number, ms=[times[place] for place in range(len(loaded))])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    outputs = [described(run(x)) for run, x, _ in loaded]
    say(event="done", outputs=outputs, peak_rss_bytes=peak, temperature=None, clock_mhz=None)


def load(path: str) -> tuple[Callable[[Any], Any], torch.Tensor, float]:
    """The program, its fixed input, and how many milliseconds loading took."""
    start = time.perf_counter()
    program = torch.export.load(path)
    name = program.graph_signature.user_inputs[0]
    image = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    ms = 1e3 * (time.perf_counter() - start)
    return program.module(), fixed_input(tuple(image.shape), image.dtype), ms


def fixed_input(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """What all runners give their files, so that outputs can be held against those of another machine."""
    state, states = 1, []
    for _ in range(math.prod(shape)):
        state = (state * 1664525 + 1013904223) % 2**32
        states.append(state)
    whole = torch.tensor(states)
    return ((whole >> 24) if dtype == torch.uint8 else (whole >> 8) / 8388608 - 1).to(dtype).reshape(shape)


def timed(run: Callable[[Any], Any], x: torch.Tensor, asked: argparse.Namespace) -> list[float]:
    """Milliseconds of each run, after `warmup` runs that do not count."""
    times = []
    for _ in range(asked.warmup + asked.runs):
        start = time.perf_counter()
        run(x)
        times.append(1e3 * (time.perf_counter() - start))
    return times[asked.warmup :]


def described(output: torch.Tensor) -> dict[str, Any]:
    values = output.double().flatten()
    return {"abs_sum": float(values.abs().sum()), "first": values[:16].tolist(), "count": values.numel()}


def say(**event: Any) -> None:
    print(json.dumps(event), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(3)
