"""`python -m wdp_edge.devices.worker`: loads artifacts in a process of its own and times or runs them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO, Any

import torch

from wdp_edge.device import TimingPlan
from wdp_edge.devices.messages import read_message, write_message
from wdp_edge.devices.serve import serve
from wdp_edge.target import Program, get_target

TIME = "time"
RUN = "run"


def main() -> None:
    serve(handle)


def handle(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    torch.set_grad_enabled(False)
    if request["verb"] == TIME:
        time_artifacts(request, replies)
    else:
        run_batches(request, requests, replies)


def time_artifacts(request: dict[str, Any], replies: IO[bytes]) -> None:
    """One message per round: milliseconds of every run of every artifact.

    Every second round goes backwards through the artifacts, so that drift within a round cancels.
    """
    plan = TimingPlan(**request["plan"])
    target = get_target(request["target"])
    programs = [target.load(Path(p), plan.threads) for p in request["artifacts"]]
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(p.input_shape, generator=generator) for p in programs]
    for number in range(plan.rounds):
        order = range(len(programs)) if number % 2 == 0 else reversed(range(len(programs)))
        times = {i: timed_runs(programs[i], inputs[i], plan) for i in order}
        write_message(replies, {"ms": [times[i] for i in range(len(programs))]})


def timed_runs(program: Program, x: torch.Tensor, plan: TimingPlan) -> list[float]:
    """Wall time of each of `plan.runs` runs in ms, after `plan.warmup` untimed ones."""
    for _ in range(plan.warmup):
        program(x)
    times = []
    for _ in range(plan.runs):
        start = time.perf_counter_ns()
        program(x)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def run_batches(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    """For every batch of images that comes in, its logits go out: float32 bytes and a shape, both ways."""
    program = get_target(request["target"]).load(Path(request["artifact"]), request["threads"])
    write_message(replies, {"input_shape": list(program.input_shape)})
    while (message := read_message(requests)) is not None:
        data, payload = message
        images = torch.frombuffer(bytearray(payload), dtype=torch.float32).reshape(data["shape"])
        logits = torch.cat([program(image).float() for image in images.split(1)])
        write_message(replies, {"shape": list(logits.shape)}, logits.contiguous().numpy().tobytes())


if __name__ == "__main__":
    main()
