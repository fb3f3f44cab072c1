"""What every stage needs: model, images, target, device. Wrong input is found here, before anything costs time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.budget import LatencyBudget, check_accepted, parse_budget
from wdp_edge.calibration.sample import Sample, balanced_sample
from wdp_edge.data.classes import absent, settled
from wdp_edge.data.folder import ImageFolder, check_apart, check_counted, contents, fingerprint
from wdp_edge.data.listed import images_at
from wdp_edge.data.loading import Views, eval_batches, load_images, load_labelled
from wdp_edge.data.preprocess import Preprocessing, normalise, preprocessing_of
from wdp_edge.data.readable import readable
from wdp_edge.data.split import hold_out
from wdp_edge.data.walk import counted
from wdp_edge.data.worker import IGNORED
from wdp_edge.device import Device, TimingPlan
from wdp_edge.devices import check_pair, get_device
from wdp_edge.devices.own_runner import program_for
from wdp_edge.errors import InputError
from wdp_edge.learn.compute import autocast, bf16_pays, device_of
from wdp_edge.models import vit
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec
from wdp_edge.parallel import world
from wdp_edge.pipeline.plan import timing_plan
from wdp_edge.pipeline.plausible import Seen, doubts
from wdp_edge.pipeline.proof import spread, spread_pairs
from wdp_edge.recipe import Recipe
from wdp_edge.shrink.streams import images_within
from wdp_edge.structure import Geometry, Structure
from wdp_edge.target import Precision, Target, check_timed, get_target, parse_precision
from wdp_edge.task import Labels, Task, defined, get_task

_FEWEST_HELD, _FEWEST_PROVING = 2, 10


@dataclass(frozen=True)
class Toolkit:
    """Target, precision and device of a recipe, and the model to time there; no images."""

    target: Target
    precision: Precision
    device: Device
    spec: ModelSpec

    @classmethod
    def of(cls, recipe: Recipe) -> Toolkit:
        target = get_target(recipe.prune.target)
        device = get_device(recipe.prune.device, recipe.prune.timing.runner)
        check_pair(device, target.name)
        return cls(
            target=target,
            precision=parse_precision(recipe.prune.precision, target),
            device=device,
            spec=ModelSpec.of(recipe.model),
        )

    def plan(self, recipe: Recipe) -> TimingPlan:
        table = recipe.prune.table
        return replace(timing_plan(recipe.prune), rounds=table.rounds, runs=table.runs)


class Context:
    """A checked recipe with its model and images.

    Raises InputError or SetupError for whatever of the recipe does not fit together.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tools = Toolkit.of(recipe)
        self.task: Task = get_task(recipe.model.task)
        facts = self.task.facts
        train, val = (images_at(Path(place), facts.labels) for place in (recipe.data.train, recipe.data.val))
        check_apart(train, val)
        if facts.output.of_classes and not recipe.model.num_classes:
            found = f" = {len(train.classes)}" if facts.named_classes else ""
            raise InputError(
                "The number of classes is not set.",
                f"Set num_classes{found} in [model].",
                {"--num-classes": f"Set num_classes{found} in [model] or give --num-classes."},
            )
        self.dense: nn.Module = load_dense(self.tools.spec, Path(recipe.model.checkpoint), recipe.model.checkpoint_key)
        self.source: nn.Module = self.dense  # what is cut: the dense model, or the same one in principal axes
        if facts.labels is Labels.MASK:
            train, val = (part.with_classes(numbered(recipe.model.num_classes)) for part in (train, val))
        if facts.named_classes:
            train, val = settled(train, val, recipe.model.num_classes, recipe.data.class_order)
        self.preprocessing: Preprocessing = preprocessing_of(self.dense, recipe.data.preprocess)
        limit, workers = recipe.data.max_unreadable, recipe.data.workers
        self.train: ImageFolder = readable(train, self.preprocessing, limit, workers)
        self.val: ImageFolder = readable(val, self.preprocessing, limit, workers)
        self.structure: Structure = vit.structure_of(self.dense)
        self.geometry: Geometry = vit.geometry_of(self.dense)
        count, seed = recipe.data.holdout_images, recipe.prune.seed
        self.train_indices, self.holdout_indices = hold_out(self.train, count, seed, 2 if facts.of_pairs else 1)

    def check_prunable(self) -> None:
        """Raises InputError when the model can only be exported, its files not timed, the budget not kept, the
        batches not divided among the processes, a GPU not had, or the images too few."""
        vit.check_supported(self.dense, self.tools.spec.name)
        check_timed(self.tools.target)
        check_accepted(self.tools.device.name, self.tools.device.kind, self.recipe.prune.accept)
        if self.recipe.prune.timing.runner:
            program_for(self.tools.target.name)
        for batch_size in (self.recipe.prune.learn.batch_size, self.recipe.prune.recover.batch_size):
            world().share(batch_size)
        device_of(self.recipe.prune.compute.device)
        self.budget  # noqa: B018  (parses it)
        self.check_choosable()
        check_counted(self.val, self.task.facts)

    def check_choosable(self) -> None:
        """Raises InputError when too few training images can be held back to choose by."""
        if (held := len(self.holdout_indices)) < _FEWEST_HELD:
            raise InputError(
                f"{'Only one' if held else 'None'} of the {len(self.train)} images in {self.train.root} can be held "
                "back, which is too few to choose by.",
                "Give every class two images at least, better ten.",
            )
        check_counted(self.train.subset(self.holdout_indices), self.task.facts, "held-back images")

    @cached_property
    def budget(self) -> LatencyBudget:
        """Raises InputError when the recipe has none, or nonsense."""
        return parse_budget(self.recipe.prune.latency_budget)

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 -> normalised float32."""
        return normalise(images, self.preprocessing)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits; none where the model puts out embeddings."""
        return self.train.classes if self.task.facts.output.of_classes else ()

    @property
    def names_of_parts(self) -> tuple[str, ...]:
        """What `Task.drops` calls the parts of the validation images: their classes, or each by its path."""
        return self.val.paths if self.task.facts.labels is Labels.NONE else self.val.classes

    @cached_property
    def fingerprints(self) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "images": len(folder),
                "classes": len(folder.classes),
                "fingerprint": fingerprint(folder),
                "contents": contents(folder),
            }
            for name, folder in (("train", self.train), ("val", self.val))
        }

    @cached_property
    def sample(self) -> Sample:
        """Training images for saliency, candidates and calibration; never held-back ones."""
        return self._sample(self.recipe.data.calibration_images)

    def _sample(self, count: int) -> Sample:
        return balanced_sample(self.train, self.train_indices, count, self.recipe.prune.seed)

    @cached_property
    def calibration(self) -> Tensor:
        """[n, 3, H, W] uint8, in an order in which every prefix is mixed over the classes."""
        indices = self.sample.indices(self.train)
        generator = torch.Generator().manual_seed(self.recipe.prune.seed)
        mixed = [indices[i] for i in torch.randperm(len(indices), generator=generator).tolist()]
        workers = self.recipe.data.workers
        return load_images(self.train, mixed, self.preprocessing, workers, "read calibration images")

    @cached_property
    def refit_images(self) -> Views:
        """Training images that the chosen structure is refitted on; the calibration images are among them."""
        options = self.recipe.prune.compensate
        count = min(options.images, images_within(self.dense, options.scratch_gb * 1e9))
        indices = self._sample(count).indices(self.train)
        return Views(self.train, indices, self.preprocessing, self.recipe.data.workers, "read images for the refit")

    @cached_property
    def holdout(self) -> tuple[Tensor, Tensor]:
        """Held-back training images [n, 3, H, W] uint8 and their labels: what choices are made on."""
        workers = self.recipe.data.workers
        return load_labelled(self.train, self.holdout_indices, self.preprocessing, workers, "read held-back images")

    @property
    def proves_on_held_back(self) -> bool:
        """Whether files are compared with their model on held-back images alone."""
        return len(self.holdout_indices) >= _FEWEST_PROVING

    @cached_property
    def proof_images(self) -> tuple[Tensor, Tensor]:
        """What files are compared with their model on: [n, 3, H, W] uint8 and labels, of all classes.

        Held-back images, or all training images where fewer than ten are held back: the more alike a few images are,
        the more of what sets them apart is rounding. Raises InputError for a single image.
        """
        images, labels = self.holdout if self.proves_on_held_back else self._all_training_images()
        wanted = self.recipe.verify.images
        places = spread_pairs(labels, wanted) if self.task.facts.of_pairs else spread(len(images), wanted)
        if len(places) < 2:
            raise InputError(
                "One image is too few to compare a file with its model on.",
                "Set images in [verify] to two at least, better 256, and give as many training images.",
            )
        return images[places], labels[places]

    def _all_training_images(self) -> tuple[Tensor, Tensor]:
        held, every = len(self.holdout_indices), range(len(self.train))
        few = f"{held} images are" if held > 1 else f"{'One' if held else 'No'} image is"
        progress.say(f"{few} held back, too few: files are compared on all {len(every)} training images.")
        workers = self.recipe.data.workers
        return load_labelled(self.train, every, self.preprocessing, workers, "read training images")

    @cached_property
    def holdout_teacher(self) -> Tensor:
        """The dense model's outputs for the held-back images: [n, K] float32."""
        return self.quick_outputs(self.dense, self.holdout[0])

    @torch.no_grad()
    def quick_outputs(self, model: Any, images: Tensor) -> Tensor:
        """images: [n, 3, H, W] uint8 -> [n, K] float32, where the model is, in bfloat16 where that pays.

        For choices and curves.
        """
        model.eval()
        device = next(model.parameters()).device
        with autocast(bf16_pays(model, device), device):
            return torch.cat([model(self.prepare(part).to(device)).float().cpu() for part in images.split(128)])

    def example(self) -> Tensor:
        """[1, 3, H, W] float32."""
        return self.prepare(self.proof_images[0][:1])

    def holdout_metric(self, outputs: Tensor) -> float:
        """The task's metric of a model or a file, from its outputs for the held-back images. Raises InputError where it
        counts none of them."""
        dense = self.holdout_teacher if self.task.facts.relative else None
        value = next(iter(self.task.metrics(outputs, self.holdout[1], dense).values()))
        return defined(value, self.task.facts.metric, "the held-back images")

    @torch.no_grad()
    def validation_outputs(self, model: nn.Module, title: str) -> tuple[Tensor, Tensor]:
        """float32 outputs [n, K] of a model for all validation images, and their labels."""
        model.eval()
        outputs, labels = [], []
        workers = self.recipe.data.workers
        everything = range(len(self.val))
        for images, part in eval_batches(self.val, everything, self.preprocessing, 64, workers, title):
            outputs.append(model(self.prepare(images)))
            labels.append(part)
        return torch.cat(outputs), torch.cat(labels)

    def images_budget(self) -> int:
        """Training images seen by learning and recovery together."""
        prune = self.recipe.prune
        return round(prune.epochs * len(self.train_indices)) if prune.epochs else prune.images

    def doubts(self, outputs: Tensor, labels: Tensor) -> list[str]:
        """What speaks against the dense model, from its outputs for held-back images, and classes without images."""
        facts = self.task.facts
        gaps = absent(self.train, self.val) if facts.named_classes and facts.labels is Labels.ONE else []
        return doubts(Seen.of(facts.name, outputs, labels, self.train)) + gaps

    def describe(self) -> str:
        budget = self.recipe.prune.latency_budget
        return (
            f"{self.tools.spec.name}, {len(self.train)} training images, budget {budget} "
            f"({self.tools.target.name}, {self.tools.precision}, {self.tools.device.name})"
        )


def numbered(classes: int) -> tuple[str, ...]:
    """Names of the classes of masks: their numbers. Raises InputError for more than a mask can hold."""
    if classes > IGNORED:
        raise InputError(
            f"Masks hold {IGNORED} classes at most, not {classes}.", "Take a head with fewer classes in [model]."
        )
    return tuple(map(str, range(classes)))


def announce(context: Context) -> None:
    progress.say(context.describe())
    for name, folder in (("training", context.train), ("validation", context.val)):
        if folder.left_out:
            progress.say(f"Left out of the {name} images: {counted(Counter(dict(folder.left_out)))}.")
