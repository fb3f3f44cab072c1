"""Fine-tuning of the shrunk model: labels, the dense model's outputs, and its block outputs."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.config.recipe import ComputeRecipe, RecoverRecipe
from wdp_edge.data.stream import TrainStream
from wdp_edge.learn.checkpoint import Checkpointer, load_state
from wdp_edge.learn.compute import Compute, add_shares
from wdp_edge.learn.teacher import BlockOutputs, Teacher, feature_depths, feature_loss, output_tokens
from wdp_edge.models import vit
from wdp_edge.protocols.task import Task, get_task
from wdp_edge.runs.stages import CurvePoint, Recovered
from wdp_edge.workers.parallel import average_gradients, mean, world

CURVE_POINTS = 60
JUDGEMENTS = 6
OBSERVATIONS = 8
"""How often in all a rounding's ranges are taken anew: weights move little."""


class Rounding(Protocol):
    """Integer arithmetic that a student is trained under (`wdp_edge.calibration.training`)."""

    def observe(self, model: nn.Module) -> None:
        """Takes ranges of activations from the model as it is."""
        ...

    def layers(self, model: nn.Module, images: int) -> AbstractContextManager[Any]:
        """A context in which the model's layers round: for a forward pass of so many images, and for what is run
        again of it in the backward pass."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class RecoveryPlan:
    """steps: optimiser steps in all. judge: held-back training images' accuracy of a model, for the curve.

    channels: residual channels of the dense model that a small one of another pruner still has, ascending; None: all.
    task: its name. compute: what the recovery runs on. rounding: of the student's layers; None: they compute in float.
    """

    steps: int
    judge: Callable[[nn.Module], float] | None = None
    channels: tuple[int, ...] | None = None
    task: str = "classify"
    compute: ComputeRecipe = field(default_factory=ComputeRecipe)
    rounding: Rounding | None = None


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices are decayed; biases, norms, LayerScale and position are not."""
    exempt = getattr(model, "no_weight_decay", None)
    undecayed = ("embed", "token", *(exempt() if exempt else ()))
    decayed = [p for name, p in model.named_parameters() if p.ndim >= 2 and not any(w in name for w in undecayed)]
    ids = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in ids]
    return [
        {"name": "matrices", "params": decayed, "weight_decay": weight_decay},
        {"name": "others", "params": others, "weight_decay": 0.0},
    ]


class Recovery:
    """State and step of the recovery of `small`, a cut copy of `dense`."""

    def __init__(self, dense: Any, small: Any, plan: RecoveryPlan, options: RecoverRecipe) -> None:
        self.options, self.steps = options, plan.steps
        self.task: Task = get_task(plan.task)
        # The steps of int8 are finer than those of bfloat16.
        plain = plan.compute if plan.rounding is None else replace(plan.compute, mixed_precision="off")
        self.compute, self.rounding = Compute(plain, dense), plan.rounding
        device = self.compute.device
        self.channels = None if plan.channels is None else torch.tensor(plan.channels, device=device)
        self.teacher = Teacher(dense, self.compute)
        self.student: Any = small.to(device).train()
        vit.set_fused_attention(small, self.compute.fused_attention_pays(small))
        self.average: Any = copy.deepcopy(small).eval()
        depth = len(vit.blocks_of(small))
        self.goals = feature_goals(small, len(vit.blocks_of(dense)), options.feature_depths)
        self.depths = list(self.goals)
        self.read_tokens = {depth: vit.read_tokens(small)}
        groups = parameter_groups(small, options.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, fused=True)
        self.done = 0
        self.distance = 1.0  # from the dense model, before the first step; 1: as far as chance
        self.curve: list[CurvePoint] = []

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a cosine to zero; less for a model that is near the dense one already.

        Adam's steps do not shrink with the gradient: at the full rate they undo more of a fit than they add.
        """
        warm = max(1, round(self.options.warmup * self.steps))
        rise = min(1.0, (step + 1) / warm)
        return self.options.lr * self.distance * rise * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One update. images: [B, 3, H, W] float32 normalised; labels: as the task takes them.

        With several processes: of this one's share of the batch; loss, distillation and features are this share's.
        """
        if self.rounding is not None and self.done % max(1, self.steps // OBSERVATIONS) == 0:
            self.rounding.observe(self.student)
        totals: dict[str, Tensor] = {}
        for part, part_labels, share in self.compute.parts(images, labels):
            add_shares(totals, self._backward(part, part_labels, share), share)
        average_gradients(self.optimiser)
        if (outputs := totals.pop("outputs", None)) is not None:
            distances = mean(torch.stack([totals["features"], outputs]))
            self.distance = min(1.0, math.sqrt(float(distances.max())))
        rate = self.rate(self.done)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.done += 1
        self._follow()
        return {**{name: float(value) for name, value in totals.items()}, "lr": rate}

    def _backward(self, images: Tensor, labels: Tensor, share: float) -> dict[str, Tensor]:
        """Gradients of some images' loss. share: of the batch.

        Besides losses, in the first step, how far the outputs are from the teacher's.
        """
        with BlockOutputs(self.teacher.model, list(self.goals.values())) as wanted:
            teacher = self.teacher(images)
        rounded: AbstractContextManager[Any] = nullcontext()
        if self.rounding is not None:
            rounded = self.rounding.layers(self.student, len(images))
        with BlockOutputs(self.student, self.depths) as got, rounded, self.compute.forward(self.student, rounded):
            outputs = self.student(images)
        options = self.options
        loss, distilled = self.task.loss(outputs, teacher, labels, options.distillation, options.temperature)
        errors = [
            feature_loss(got.values[d], self._shared(wanted.values[goal]), self.read_tokens.get(d))
            for d, goal in self.goals.items()
        ]
        features = torch.stack(errors).mean()
        (share * (loss + options.features * features)).backward()
        values = {"loss": loss, "distillation": distilled, "features": features}
        if self.done == 0:
            # At an exit the kept blocks are the dense model's own, under a head that does not fit.
            values["outputs"] = feature_loss(output_tokens(outputs.detach()), output_tokens(teacher), None)
        return values

    def _shared(self, wanted: Tensor) -> Tensor:
        """The dense model's stream on the channels that the small one has: [B, N, D] -> [B, N, d]."""
        return wanted if self.channels is None else wanted.index_select(-1, self.channels)

    @torch.no_grad()
    def _follow(self) -> None:
        """Moves the averaged weights; the average forgets its start quickly."""
        decay = min(self.options.ema, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.student.parameters()), 1 - decay)

    def state(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "distance": self.distance,
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rounding": self.rounding.state() if self.rounding else {},
            "curve": [[p.step, p.images, p.values] for p in self.curve],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.done, self.distance = state["done"], state["distance"]
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.rounding:
            self.rounding.restore(state["rounding"])
        self.curve = [CurvePoint(*point) for point in state["curve"]]


def feature_goals(small: Any, dense_depth: int, count: int) -> dict[int, int]:
    """After how many blocks of the small model the stream is compared, and with the dense one's after how many.

    At an exit with a classifier the last block is left free: it has to do the work of those that are gone, and held to
    the dense block in its place it cannot. A head without weights reads what the dense model's reads, at an exit too.
    """
    depth = len(vit.blocks_of(small))
    goals = {d: d for d in feature_depths(depth, count)}
    if not vit.has_classifier(small):
        goals[depth] = dense_depth
    elif depth < dense_depth and len(goals) > 1:
        del goals[depth]
    return goals


def recover(
    dense: nn.Module,
    small: nn.Module,
    plan: RecoveryPlan,
    options: RecoverRecipe,
    stream: TrainStream,
    checkpoint: Path,
) -> tuple[nn.Module, Recovered]:
    """Fine-tunes `small` (or resumes from `checkpoint`); returns the model to ship and the curve.

    With several processes, the curve is the first one's.
    """
    start = time.monotonic()
    recovery = Recovery(dense, small, plan, options)
    if (state := load_state(checkpoint)) is not None:
        recovery.restore(state)
    save = Checkpointer(checkpoint, options.checkpoint_seconds, recovery.state)
    every = max(1, plan.steps // CURVE_POINTS)
    judged = max(1, plan.steps // JUDGEMENTS)
    with progress.task("recover accuracy", plan.steps) as advance:
        advance(recovery.done)
        for images, labels in stream.batches(recovery.done, plan.steps):
            values = recovery.step(images, labels)
            done = recovery.done
            if plan.judge and world().leads and (done % judged == 0 or done == plan.steps):
                values["holdout_accuracy"] = plan.judge(recovery.average)
            if done % every == 0 or "holdout_accuracy" in values:
                recovery.curve.append(CurvePoint(done, done * options.batch_size, values))
            save()
            advance(1)
    shipped = recovery.average if options.ema else recovery.student
    vit.set_fused_attention(shipped, True)
    seconds = time.monotonic() - start
    return shipped.cpu().eval(), Recovered(seconds, plan.steps * options.batch_size, recovery.curve)
