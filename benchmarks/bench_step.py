"""A learning step against a plain fine-tuning step of the same model and batch: time and peak memory.

    python benchmarks/bench_step.py --batch-size 64

Plain: the model in timm's default form under the same autocast, cross entropy, AdamW on all weights. It is timed with
timm's fused attention and with the unfused form that the search uses for short sequences; ratios are stated against
both. Two more learning steps save memory: one runs blocks again in the backward pass (grad_checkpointing), one takes
the batch in four pieces (micro_batch_size). Steps are timed in turn (A B C A B C …). Memory is the peak of a process
that runs only one kind of step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wdp_edge.config.recipe import ComputeRecipe, LearnRecipe
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.compute import autocast, bf16_pays
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models import vit
from wdp_edge.models.spec import ModelSpec, create

LEARNING = ("learning", "grad-checkpointing", "micro-batches")
PLAIN = ("plain", "plain-unfused")
KINDS = (*LEARNING, *PLAIN)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="vit_small_patch14_dinov2")
    parser.add_argument("--img-size", type=int, default=56)
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    return parser.parse_args()


def model_of(options: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    return create(ModelSpec(options.model, options.num_classes, {"img_size": options.img_size}))


def plain_step(model: Any, fused: bool) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """One step of plain fine-tuning. fused: with timm's fused attention."""
    bf16 = bf16_pays(model)
    model.train()
    vit.set_fused_attention(model, fused)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step(images: torch.Tensor, labels: torch.Tensor) -> None:
        with autocast(bf16):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def learning_step(model: Any, compute: ComputeRecipe) -> Callable[[torch.Tensor, torch.Tensor], object]:
    structure = vit.structure_of(model)
    masks = Masks(
        structure,
        [[(i + 0.5) / b.heads for i in range(b.heads)] for b in structure.blocks],
        [[(i + 0.5) / b.hidden for i in range(b.hidden)] for b in structure.blocks],
        Alignment(1, 8),
    )
    first = structure.blocks[0]
    cost = CostModel([(1, 0.1), (first.heads, 1.0)], [(8, 0.1), (first.hidden, 1.0)], 0.1)
    goal = SearchGoal(cost, 2.0 * structure.depth, 1.0 * structure.depth, 1000, compute=compute)
    return Search(model, masks, goal, LearnRecipe()).step


def step_of(kind: str, options: argparse.Namespace) -> Callable[[torch.Tensor, torch.Tensor], object]:
    model = model_of(options)
    if kind in PLAIN:
        return plain_step(model, kind == "plain")
    pieces = max(1, options.batch_size // 4) if kind == "micro-batches" else 0
    again = kind == "grad-checkpointing"
    return learning_step(model, ComputeRecipe(micro_batch_size=pieces, grad_checkpointing=again))


def batch(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (options.batch_size, 3, options.img_size, options.img_size)
    return torch.randn(shape), torch.randint(0, options.num_classes, (options.batch_size,))


def memory(kind: str) -> float:
    """Peak resident megabytes of a process that runs five steps of one kind, less what it had before the model."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", kind]
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, check=True, cwd=Path.cwd())
    return float(json.loads(done.stdout)["mb"])


def peak_kilobytes() -> float:
    """Peak resident memory of this process. getrusage alone would count the parent's: it survives exec on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def report_memory(options: argparse.Namespace) -> None:
    """Prints the peak of five steps as JSON, for the parent process."""
    before = peak_kilobytes()
    step, data = step_of(options.memory_of, options), batch(options)
    for _ in range(5):
        step(*data)
    print(json.dumps({"mb": (peak_kilobytes() - before) / 1024}))


def main() -> None:
    """Times the kinds of step in turn, measures their memory, prints both."""
    options = arguments()
    if options.memory_of:
        report_memory(options)
        return
    steps = {kind: step_of(kind, options) for kind in KINDS}
    data = batch(options)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(options.rounds + 2):
        for kind, step in steps.items():
            start = time.perf_counter()
            step(*data)
            if number >= 2:
                times[kind].append(time.perf_counter() - start)
    peaks = {kind: memory(kind) for kind in KINDS}
    print(f"{options.model}, {options.img_size} px, batch {options.batch_size}, {torch.get_num_threads()} threads")
    for kind in KINDS:
        middle = statistics.median(times[kind])
        print(
            f"{kind:18} {middle * 1e3:7.0f} ms/step {options.batch_size / middle:6.0f} images/s {peaks[kind]:7.0f} MB"
        )
    for kind in KINDS[1:]:
        first, second = ("learning", kind) if kind in PLAIN else (kind, "learning")
        ratio = statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))
        print(f"{first} / {second}: time {ratio:.2f}, peak memory {peaks[first] / peaks[second]:.2f}")


if __name__ == "__main__":
    main()
