"""What every method is given alike: the dense model, images, recovery, export, clock, and the test images' verdict."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from arena.origin import origin_of
from wdp_edge.artifacts.parity import accuracy
from wdp_edge.config.recipe import Recipe, RecoverRecipe
from wdp_edge.data.loading import Views, load_images
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.learn.recovery import RecoveryPlan, recover
from wdp_edge.protocols.device import ratio
from wdp_edge.pruning.inputs import Inputs

_EVAL_BATCH = 32


@dataclass(frozen=True)
class Proposal:
    """A cut model, not yet recovered.

    channels: residual channels of the dense model that it still has, ascending; None: all.
    images: training images that were looked at to make it. steps: optimiser steps that it took.
    """

    model: Any
    channels: tuple[int, ...] | None = None
    images: int = 0
    steps: int = 0


def refit_within(recipe: Recipe, images: int) -> Recipe:
    """The recipe with a refit on at most half of `images`, so that as many are left for learning and recovery."""
    refit = recipe.prune.compensate
    refit = replace(refit, images=min(refit.images, max(1, images // 2)))
    return replace(recipe, prune=replace(recipe.prune, compensate=refit))


class Setting:
    """One pair of model and data at one precision on one device, for one seed; `folder` holds the files made."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.recipe, self.folder = recipe, folder
        inputs = Inputs.of(recipe)
        self.tools, self.data, self.held_back = inputs.tools, inputs.data, inputs.held_back
        self.dense: Any = inputs.model.module
        self.spec = inputs.model.spec
        self.structure, self.geometry = inputs.model.structure, inputs.model.geometry
        self.origin = origin_of(recipe)

    def at(self, share: float) -> Recipe:
        """The recipe with a budget of `share` of the dense latency."""
        return replace(self.recipe, prune=replace(self.recipe.prune, latency_budget=f"{100 * share:g}%"))

    @cached_property
    def dense_file(self) -> Path:
        path = self.folder / f"dense{self.tools.target.suffix}"
        if not path.exists():
            self.export(self.dense, path)
        return path

    def export(self, model: Any, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.tools.export(copy.deepcopy(model).eval(), self.data, path)
        return path

    def share_of(self, model: Any) -> float:
        """The model's latency over the dense one's: exported, and timed in turn with it."""
        # Two comparisons may fill one folder at once.
        path = self.export(model, self.folder / f"trial-{os.getpid()}{self.tools.target.suffix}")
        try:
            files = [self.dense_file, path]
            dense, trial = self.tools.device.time(self.tools.target.name, files, self.tools.plan)
        finally:
            path.unlink()
        return ratio(trial, dense)

    @cache  # noqa: B019 (one setting per seed)
    def gradients(self, batches: int, batch_size: int) -> dict[str, Tensor]:
        """The loss's gradient in every parameter of the dense model, summed over some training batches."""
        model = copy.deepcopy(self.dense)
        for images, labels in self.data.stream(batch_size, first=0).batches(0, batches):
            nn.functional.cross_entropy(model(images), labels).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    @cached_property
    def refit_images(self) -> Views:
        """Training images that cut models are refitted on."""
        return self.data.refit_images(self.dense, self.recipe.prune.compensate)

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """All test images [n, 3, H, W] uint8 and labels [n] int64."""
        val, workers = self.data.val, self.recipe.data.workers
        images = load_images(val, range(len(val)), self.data.preprocessing, workers, "read test images")
        return images, torch.tensor(val.labels)

    def accuracy_of(self, path: Path) -> float:
        """Of a file through its own runtime on all test images, in [0, 1]."""
        images, labels = self.test
        batches = (self.data.prepare(part) for part in images.split(_EVAL_BATCH))
        logits = run_artifact(self.tools.target.name, path, batches, len(images), f"evaluate {path.name}")
        return accuracy(logits, labels)

    def steps_after(self, proposal: Proposal, images: int) -> int:
        """Of the common recovery; what it took to make the proposal comes off the images."""
        return max(0, images - proposal.images) // self.recipe.prune.recover.batch_size

    def recovered(self, proposal: Proposal, images: int, name: str, options: RecoverRecipe | None = None) -> Any:
        """The proposal after the common recovery. options: the recipe's where None."""
        options = options or self.recipe.prune.recover
        plan = RecoveryPlan(self.steps_after(proposal, images), channels=proposal.channels)
        stream = self.data.stream(options.batch_size, first=1)
        # A killed cell starts anew: its structure was fitted to latencies that no run measures twice alike.
        checkpoint = self.folder / f"{name}.checkpoint"
        checkpoint.unlink(missing_ok=True)
        model, _ = recover(self.dense, copy.deepcopy(proposal.model), plan, options, stream, checkpoint)
        checkpoint.unlink(missing_ok=True)
        return model
