"""What a recipe names, loaded: toolkit, trained model, images. Wrong input is found here, before it costs time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.artifacts.about import Origin, metadata
from wdp_edge.calibration.fake_quant import Scheme
from wdp_edge.calibration.training import Rounding, trained_scheme
from wdp_edge.config.budgets import Budget, budget_of
from wdp_edge.config.recipe import ModelRecipe, Recipe
from wdp_edge.config.values import LatencyBudget, check_accepted
from wdp_edge.data.folder import check_counted
from wdp_edge.data.preprocess import channels_of
from wdp_edge.errors import InputError
from wdp_edge.learn.compute import autocast, bf16_pays, device_of
from wdp_edge.learn.exits import depths_of
from wdp_edge.models import vit
from wdp_edge.models.files import load_dense
from wdp_edge.models.pixels import take_rgb
from wdp_edge.models.spec import ModelSpec
from wdp_edge.models.structure import Geometry, Structure
from wdp_edge.protocols.target import check_timed
from wdp_edge.protocols.task import Labels, Output, defined, facts_of
from wdp_edge.pruning.data import Data, listed
from wdp_edge.pruning.toolkit import STATIC_CALIBRATION, Toolkit
from wdp_edge.runs.look import knows_by_heart
from wdp_edge.runs.places import project_of
from wdp_edge.runs.run import recipe_digest
from wdp_edge.workers.parallel import world

SOFT = 4.0
"""Temperature for outputs of which a model is too sure: of 1, 2, 4 and 16 the one that orders candidates on memorised
images most as new images do (`make bench-measures`)."""


@dataclass(frozen=True)
class DenseModel:
    """The trained model as it came. structure: its widths; geometry: what cutting leaves alone."""

    spec: ModelSpec
    module: nn.Module
    structure: Structure
    geometry: Geometry

    @classmethod
    def of(cls, recipe: ModelRecipe, channels: str = "rgb") -> DenseModel:
        """channels: that the checkpoint takes; the model takes "rgb". Raises InputError as `load_dense` does."""
        spec = ModelSpec.of(recipe)
        module = load_dense(spec, Path(recipe.checkpoint), recipe.checkpoint_key, recipe.checkpoint_prefix)
        module = take_rgb(module, channels)
        return cls(spec, module, vit.structure_of(module), vit.geometry_of(module))


@dataclass(frozen=True)
class HeldBack:
    """The held-back images, and what the dense model says of them: choices and curves are made by it."""

    model: DenseModel
    data: Data

    @cached_property
    def teacher(self) -> Tensor:
        """The dense model's outputs: [n, K] float32."""
        return self.outputs(self.model.module)

    @cached_property
    def memorised(self) -> bool:
        """Whether the dense model may know these images by heart."""
        task, labels = self.data.task, self.data.holdout[1]
        if task.facts.relative:
            return False
        value = next(iter(task.metrics(self.teacher, labels, None).values()))
        return knows_by_heart(task.facts, value, len(labels))

    @property
    def temperature(self) -> float:
        """At which models are compared with the dense one.

        Of images that it knows by heart the dense model is so sure that what a cut does to its probabilities tells less
        of what it does to those of other images than softened ones do. Measured for one class per image, and so done
        for these alone.
        """
        facts = self.data.task.facts
        single = facts.output is Output.LOGITS and facts.labels is Labels.ONE
        return SOFT if single and self.memorised else 1.0

    def divergence(self, outputs: Tensor) -> float:
        """How far a model is from the dense one, by its outputs for these images: what candidates are ordered by."""
        return float(self.data.task.divergence(outputs, self.teacher, self.temperature))

    @torch.no_grad()
    def outputs(self, model: Any) -> Tensor:
        """[n, K] float32 of a model, where it is, in bfloat16 where that pays."""
        model.eval()
        parts = self.data.holdout[0].split(128)
        return torch.cat([self.answers(model, self.data.prepare(part)) for part in parts])

    @torch.no_grad()
    def answers(self, model: Any, images: Tensor) -> Tensor:
        """The same for normalised images, [b, 3, H, W] float32."""
        device = next(model.parameters()).device
        with autocast(bf16_pays(model, device), device):
            found: Tensor = model(images.to(device)).float().cpu()
        return found

    def metric(self, outputs: Tensor) -> float:
        """The task's metric of a model or a file, from its outputs for these images. Raises InputError where it counts
        none of them."""
        task = self.data.task
        dense = self.teacher if task.facts.relative else None
        value = next(iter(task.metrics(outputs, self.data.holdout[1], dense).values()))
        return defined(value, task.facts.metric, "the held-back images")


@dataclass(frozen=True)
class Inputs:
    """A checked recipe with all that it names."""

    recipe: Recipe
    tools: Toolkit
    model: DenseModel
    data: Data
    held_back: HeldBack

    @classmethod
    def of(cls, recipe: Recipe) -> Inputs:
        """Raises InputError or SetupError for whatever of the recipe does not fit together."""
        tools = Toolkit.of(recipe.prune)
        folders = listed(recipe, facts_of(recipe.model.task))
        model = DenseModel.of(recipe.model, channels_of(recipe.data.preprocess))
        data = Data.of(recipe, folders, model.module)
        return cls(recipe, tools, model, data, HeldBack(model, data))

    def elsewhere(self, recipe: Recipe) -> Inputs:
        """For a recipe that differs in its budget, target, device and folder; nothing is loaded again.

        Raises InputError or SetupError as `Toolkit.of` does.
        """
        return replace(self, recipe=recipe, tools=Toolkit.of(recipe.prune))

    def texts(self, structure: Structure, run: Path, pixels: bool = False) -> dict[str, str]:
        """What a file of the run says about itself. structure: of its model; pixels: see `metadata`."""
        digest = recipe_digest(self.recipe, project_of(run))
        origin = Origin(self.model.spec.name, structure, digest, self.recipe.model.task)
        return metadata(origin, self.data.preprocessing, self.data.class_names, pixels)

    def scheme(self) -> Scheme | None:
        """What recovery is asked to simulate of the file's precision. Raises InputError for one without integers."""
        if not self.recipe.prune.recover.rounding:
            return None
        found = trained_scheme(self.tools.target, self.tools.precision)
        if found is None:
            raise InputError(
                f"Values in {self.tools.precision} files are not rounded to integers: there is nothing to simulate.",
                "Set rounding = false in [prune.recover].",
                {"--precision": "Set rounding = false in [prune.recover], or give --precision int8-static."},
            )
        return found

    def rounding(self) -> Rounding | None:
        """The same for a training; it looks at the images that files with fixed ranges are calibrated on."""
        scheme = self.scheme()
        if scheme is None:
            return None
        return Rounding(scheme, self.data.prepare(self.data.calibration[:STATIC_CALIBRATION]))

    def check_prunable(self) -> Budget:
        """The budget. Raises InputError when the model can only be exported, its files not timed, the budget not kept,
        the batches not divided among the processes, a GPU not had, or the images too few."""
        prune = self.recipe.prune
        vit.check_supported(self.model.module, self.model.spec.name)
        check_timed(self.tools.target)
        depths_of(self.model.module, prune.learn.exits, prune.select.exit)
        budget = budget_of(prune)
        if isinstance(budget, LatencyBudget):
            check_accepted(self.tools.device.name, self.tools.device.kind, prune.accept)
        for batch_size in (prune.learn.batch_size, prune.recover.batch_size):
            world().share(batch_size)
        device_of(prune.compute.device)
        self.scheme()
        self.data.check_choosable()
        check_counted(self.data.val, self.data.final_task.facts)
        return budget
