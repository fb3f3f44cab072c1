"""The search for widths: scores and thresholds learned under the latency budget, with the dense model as teacher.

Of the weights only `proj` and `fc2` move (the layers that the closed-form compensation refits later), so that the
masked model stays alive at half its width while a step stays as cheap as plain fine-tuning.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.config.recipe import ComputeRecipe, LearnRecipe
from wdp_edge.data.stream import TrainStream
from wdp_edge.learn.budget_term import AugmentedLagrangian, CostModel, structure_cost
from wdp_edge.learn.checkpoint import Checkpointer, load_state
from wdp_edge.learn.compute import Compute, add_shares
from wdp_edge.learn.exits import Exits, exits_of, forward_with_exits
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.masks import START_KEEP, Masks, logit
from wdp_edge.learn.refits import Refits
from wdp_edge.learn.teacher import BlockOutputs, Teacher, feature_depths, feature_loss
from wdp_edge.models import vit
from wdp_edge.protocols.task import Task, get_task
from wdp_edge.runs.stages import CurvePoint, Learned
from wdp_edge.workers.parallel import average_gradients

EXIT_WEIGHT = 0.3
DISTILLATION, TEMPERATURE = 0.7, 2.0
RAMP = 0.5
FEATURE_DEPTHS, REFITS = 6, 10
CURVE_POINTS = 60
# Share of the ramp in which thresholds could get to the budget, and their rate at the end against that before.
_REACH, _SETTLED = 0.5, 0.1


@dataclass(frozen=True)
class SearchGoal:
    """cost: latency model; dense_ms: where the budget ramp starts; budget_ms: where it ends after half the steps. They
    are the same where the masks begin at the budget.

    batch_size: images per step. task: name of the model's task. compute: what the search runs on.
    """

    cost: CostModel
    dense_ms: float
    budget_ms: float
    steps: int
    batch_size: int = 64
    task: str = "classify"
    compute: ComputeRecipe = field(default_factory=ComputeRecipe)

    def budget_at(self, step: int) -> float:
        share = min(1.0, (step + 1) / max(1.0, RAMP * self.steps))
        return self.dense_ms + (self.budget_ms - self.dense_ms) * share

    def thresholds_lr(self, step: int, usual: float) -> float:
        """The usual rate, or more where steps are few; falling after the ramp, so that widths settle.

        A step of Adam moves a threshold by the rate at most: thresholds have to get from where all is kept to where
        the budget's share is, well within the ramp, or the search ends above its budget. One that begins there has
        nowhere to get to.
        """
        rate = usual
        if self.dense_ms > self.budget_ms:
            distance = logit(START_KEEP) - logit(min(0.95, max(0.05, self.budget_ms / self.dense_ms)))
            rate = max(usual, distance / max(1.0, _REACH * RAMP * self.steps))
        late = max(0.0, (step / self.steps - RAMP) / (1 - RAMP))
        return rate * (1 - (1 - _SETTLED) * late)


def optimiser_groups(student: nn.Module, masks: Masks, exits: Exits, options: LearnRecipe) -> list[dict[str, Any]]:
    """One group per kind of parameter. Scores and thresholds are never decayed."""
    kinds: dict[str, tuple[list[nn.Parameter], float, float]] = {
        "scores": ([*masks.heads_scores, *masks.hidden_scores], options.scores_lr, 0.0),
        "thresholds": ([p for n, p in masks.named_parameters() if "thresholds" in n], options.thresholds_lr, 0.0),
        "weights": ([p for p in student.parameters() if p.requires_grad], options.weights_lr, 0.0),
        "exits": (list(exits.parameters()), options.exits_lr, 0.0),
    }
    return [
        {"name": name, "params": params, "lr": lr, "weight_decay": decay}
        for name, (params, lr, decay) in kinds.items()
        if params
    ]


def searched_weights(student: Any) -> None:
    """Freezes everything but `proj` and `fc2` of every block."""
    student.requires_grad_(False)
    for sublayer in vit.sublayers(student):
        if sublayer is not None:
            sublayer.writer.requires_grad_(True)


class Search:
    """State and step of the search. Scores and thresholds stay on the CPU: they are small, and so is their work."""

    def __init__(self, dense: Any, masks: Masks, goal: SearchGoal, options: LearnRecipe) -> None:
        self.goal, self.masks = goal, masks
        self.task: Task = get_task(goal.task)
        self.compute = Compute(goal.compute, dense)
        self.teacher = Teacher(dense, self.compute)
        self.student: Any = copy.deepcopy(dense).to(self.compute.device).train()
        vit.set_fused_attention(self.student, self.compute.fused_attention_pays(dense))
        searched_weights(self.student)
        self.exits = Exits(dense, exits_of(dense, options.exits)).to(self.compute.device)
        self.lagrangian = AugmentedLagrangian()
        groups = optimiser_groups(self.student, masks, self.exits, options)
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
        self.options = options
        depth = len(vit.blocks_of(dense))
        self.depths = feature_depths(depth, FEATURE_DEPTHS) if options.features else []
        self.read_tokens = {depth: vit.read_tokens(dense)}
        self.done = 0
        self.curve: list[CurvePoint] = []

    def step(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """One update. images: [B, 3, H, W] float32 normalised; labels: as the task takes them.

        With several processes: of this one's share of the batch; loss and distillation are this share's.
        """
        totals: dict[str, Tensor] = {}
        for part, part_labels, share in self.compute.parts(images, labels):
            add_shares(totals, self._backward(part, part_labels, share), share)
        cost, budget = self.step_towards_budget()
        heads, hidden = (r.detach() for r in self.masks.keep_ratios())
        narrow = {"keep_channels": float(self.masks.channel_ratios().detach().mean())} if self.masks.narrow else {}
        return {
            **{name: float(value) for name, value in totals.items()},
            "cost_ms": cost,
            "budget_ms": budget,
            "lambda": self.lagrangian.multiplier,
            "keep_heads": float(heads.mean()),
            "keep_hidden": float(hidden.mean()),
            **narrow,
        }

    def step_towards_budget(self) -> tuple[float, float]:
        """Adds the budget's gradient to what there is and takes the step. Returns cost and budget before it, ms."""
        budget = self.goal.budget_at(self.done)
        for group in self.optimiser.param_groups:
            if group["name"] == "thresholds":
                group["lr"] = self.goal.thresholds_lr(self.done, self.options.thresholds_lr)
        cost = structure_cost(self.masks, self.goal.cost)
        self.lagrangian(cost, budget).backward()
        average_gradients(self.optimiser)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.lagrangian.ascend(float(cost.detach()), budget)
        self.done += 1
        return float(cost.detach()), budget

    def _backward(self, images: Tensor, labels: Tensor, share: float) -> dict[str, Tensor]:
        """Gradients of some images' loss. share: of the batch."""
        with BlockOutputs(self.teacher.model, self.depths) as wanted:
            teacher = self.teacher(images)
        with MaskedForward(self.student) as masked, BlockOutputs(self.student, self.depths) as got:
            masked.heads, masked.hidden = ([m.to(images.device) for m in kind] for kind in self.masks.masks())
            if (channels := self.masks.channel_masks()) is not None:
                masked.head_channels = [m.to(images.device) for m in channels]
            with self.compute.forward(self.student):
                outputs, early = forward_with_exits(self.student, self.exits, images)
            loss, distilled = self.task.loss(outputs, teacher, labels, DISTILLATION, TEMPERATURE)
            for exit_outputs in early:
                loss = loss + EXIT_WEIGHT * self.task.loss(exit_outputs, teacher, labels, DISTILLATION, TEMPERATURE)[0]
            errors = [feature_loss(got.values[d], wanted.values[d], self.read_tokens.get(d)) for d in self.depths]
            features = torch.stack(errors).mean() if errors else torch.zeros(())
            (share * (loss + self.options.features * features)).backward()
        return {"loss": loss, "distillation": distilled, "features": features}

    def state(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "multiplier": self.lagrangian.multiplier,
            "masks": self.masks.state_dict(),
            "exits": self.exits.state_dict(),
            "student": self.student.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "curve": [[p.step, p.images, p.values] for p in self.curve],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.lagrangian.multiplier = state["multiplier"]
        self.masks.load_state_dict(state["masks"])
        self.exits.load_state_dict(state["exits"])
        self.student.load_state_dict(state["student"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.curve = [CurvePoint(*point) for point in state["curve"]]


def due(done: int, steps: int, times: int) -> bool:
    """Whether what happens `times` times, evenly spread over the steps, happens after step `done`, from 1."""
    return done * times // steps > (done - 1) * times // steps


def search(
    dense: nn.Module,
    masks: Masks,
    goal: SearchGoal,
    options: LearnRecipe,
    stream: TrainStream,
    checkpoint: Path,
    refits: Refits | None = None,
) -> Learned:
    """Runs (or resumes from `checkpoint`) goal.steps steps and returns scores and keep ratios.

    stream: `batches(start, stop)` yields (images, labels); batch number k is the same however the run got there.
    refits: put into the model before the first step, and then REFITS times, evenly spread.
    """
    start = time.monotonic()
    searching = Search(dense, masks, goal, options)
    if (state := load_state(checkpoint)) is not None:
        if state["masks"].keys() == masks.state_dict().keys():
            searching.restore(state)
        else:
            progress.say("learning widths begins anew: another version, or another model, left its checkpoint")
    save = Checkpointer(checkpoint, options.checkpoint_seconds, searching.state)
    every = max(1, goal.steps // CURVE_POINTS)
    if refits and not searching.done:
        refits(searching.student, masks)
    with progress.task("learn widths", goal.steps) as advance:
        advance(searching.done)
        for images, labels in stream.batches(searching.done, goal.steps):
            values = searching.step(images, labels)
            if refits and due(searching.done, goal.steps, REFITS):
                refits(searching.student, masks)
            if searching.done % every == 0 or searching.done == goal.steps:
                point = CurvePoint(searching.done, searching.done * goal.batch_size, values)
                searching.curve.append(point)
            save()
            advance(1)
    keep_heads, keep_hidden = (r.detach().tolist() for r in masks.keep_ratios())
    return Learned(
        heads_scores=[s.detach().tolist() for s in masks.heads_scores],
        hidden_scores=[s.detach().tolist() for s in masks.hidden_scores],
        keep_heads=keep_heads,
        keep_hidden=keep_hidden,
        keep_channels=masks.channel_ratios().detach().tolist() if masks.narrow else [],
        seconds=time.monotonic() - start,
        images=goal.steps * goal.batch_size,
        curve=searching.curve,
        cost_ms=float(structure_cost(masks, goal.cost).detach()),
        budget_ms=goal.budget_ms,
    )
