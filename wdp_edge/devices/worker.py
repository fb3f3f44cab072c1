"""`python -m wdp_edge.devices.worker`: loads artifacts in a process of its own and times or runs them."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

from wdp_edge.devices.conditions import read_here
from wdp_edge.devices.local import usable_cores
from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain
from wdp_edge.protocols.device import TimingPlan, is_warm
from wdp_edge.protocols.target import Narrow, Program, Rounding, get_target
from wdp_edge.workers.messages import read_message, serve, write_message

TIME = "time"
RUN = "run"
TRACE = "trace"
INSPECT = "inspect"


def main() -> None:
    serve(handle)


def handle(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    torch.set_grad_enabled(False)
    if request["verb"] == TIME:
        time_artifacts(request, replies)
    elif request["verb"] == TRACE:
        trace_operators(request, replies)
    elif request["verb"] == INSPECT:
        found = get_target(request["target"]).inspect(Path(request["artifact"]))
        write_message(replies, {"contents": to_plain(found)})
    else:
        run_batches(request, requests, replies)


def time_artifacts(request: dict[str, Any], replies: IO[bytes]) -> None:
    """Times every artifact in the target's own runtime; a last message says how the machine was meanwhile."""
    plan = TimingPlan(**request["plan"])
    stay_on(plan.cpus)
    keep_the_core(plan.threads)
    target = get_target(request["target"])
    programs = [target.load(Path(p), plan.threads) for p in request["artifacts"]]
    check_hardware(programs)
    generator = torch.Generator().manual_seed(0)
    inputs = [some_input(p.input_shape, p.input_dtype, generator) for p in programs]
    warm_up(programs[0], inputs[0], plan)
    before = read_here()  # at work: an idle machine lowers its clock
    write_rounds([partial(timed_runs, p, x, plan) for p, x in zip(programs, inputs, strict=True)], plan, replies)
    write_message(replies, {"before": to_plain(before), "after": to_plain(read_here())})


def check_hardware(programs: Sequence[Program]) -> None:
    """Raises InputError where a processor stands for a GPU, whatever the system's driver says it is."""
    if any(getattr(program, "software", False) for program in programs):
        raise InputError(
            "This machine's Vulkan driver computes on the processor, so its times say nothing about a GPU.",
            "Time the file on a machine with a GPU and its driver.",
        )


def write_rounds(timers: Sequence[Callable[[], list[float]]], plan: TimingPlan, replies: IO[bytes]) -> None:
    """One message per round: milliseconds of every run of every artifact. timers: one of each artifact's.

    Every second round goes backwards through the artifacts, so that drift within a round cancels.
    """
    gc.disable()  # a collection in the middle of a run would be timed
    for number in range(plan.rounds):
        time.sleep(plan.cooldown_seconds if number else 0)
        order = range(len(timers)) if number % 2 == 0 else reversed(range(len(timers)))
        times = {i: timers[i]() for i in order}
        write_message(replies, {"ms": [times[i] for i in range(len(timers))]})


def trace_operators(request: dict[str, Any], replies: IO[bytes]) -> None:
    """One message with the times of all operators of the artifact."""
    keep_the_core(request["threads"])
    target: Any = get_target(request["target"])
    found = target.trace(Path(request["artifact"]), request["threads"], request["runs"])
    write_message(replies, {"operators": to_plain(found)})


def some_input(shape: tuple[int, ...], dtype: str, generator: torch.Generator) -> torch.Tensor:
    """Noise of a program's input type, "float32" or "uint8"; latency does not depend on the values."""
    if dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator)


def timed_runs(program: Program, x: torch.Tensor, plan: TimingPlan) -> list[float]:
    """Milliseconds of each of `plan.runs` runs, once the program is warm."""
    warm_up(program, x, plan)
    return [timed_run(program, x, plan) for _ in range(plan.runs)]


def warm_up(program: Program, x: torch.Tensor, plan: TimingPlan) -> None:
    """Runs that do not count, until the program is warm."""
    times: list[float] = []
    while not is_warm(times, plan):
        times.append(timed_run(program, x, plan))


def timed_run(program: Program, x: torch.Tensor, plan: TimingPlan) -> float:
    """Milliseconds of one run.

    Wall time; with one thread less the time in which another process had the core. A run that was not
    interrupted takes exactly as much CPU time as wall time. On macOS it is wall time alone: Core ML works on threads
    and engines of its own, while the thread that called it waits.
    """
    busy, start = time.thread_time_ns(), time.perf_counter_ns()
    program(x)
    wall, busy = time.perf_counter_ns() - start, time.thread_time_ns() - busy
    alone = plan.threads == 1 and sys.platform != "darwin"
    return (min(wall, busy) if alone else wall) / 1e6


def stay_on(cpus: Sequence[int]) -> None:
    """Keeps this process to some cores; () leaves it all. Raises InputError for cores that are not there."""
    if not cpus:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("This system cannot pin a process to cores.", "Leave cpus out of [prune.timing].")
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        names = ", ".join(map(str, cpus))
        raise InputError(f"A process cannot be pinned to cores {names} here.", "lscpu lists what there is.") from error


def keep_the_core(threads: int) -> None:
    """Real-time priority where the system grants it, so that a busy machine interrupts no run.

    Only with a core to spare: the session has to go on meanwhile.
    """
    if threads < usable_cores():
        with contextlib.suppress(AttributeError, OSError):  # not Linux, or not permitted
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def run_batches(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    """For every batch of images that comes in, of the program's input type, its float32 logits go out."""
    target = get_target(request["target"])
    load = target.load_rounding if isinstance(target, Rounding) else target.load
    if request.get("narrow") and isinstance(target, Narrow):
        load = target.load_narrow
    program = load(Path(request["artifact"]), request["threads"])
    about = {"input_shape": list(program.input_shape), "input_dtype": program.input_dtype}
    write_message(replies, {**about, "ran_on": getattr(program, "ran_on", "")})
    dtype = getattr(torch, program.input_dtype)
    while (message := read_message(requests)) is not None:
        data, payload = message
        images = torch.frombuffer(bytearray(payload), dtype=dtype).reshape(data["shape"])
        logits = torch.cat([program(image).float() for image in images.split(1)])
        write_message(replies, {"shape": list(logits.shape)}, logits.contiguous().numpy().tobytes())


if __name__ == "__main__":
    main()
