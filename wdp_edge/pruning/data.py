"""The images of a recipe, for each purpose: to calibrate on, to choose by, to prove files on, to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.artifacts.proof import spread, spread_pairs
from wdp_edge.artifacts.sidecar import InputFacts
from wdp_edge.config.recipe import CompensateRecipe, DataRecipe, Recipe
from wdp_edge.data.classes import absent, settled, unlabelled_names
from wdp_edge.data.folder import ImageFolder, check_apart, check_counted, contents, fingerprint
from wdp_edge.data.listed import images_at
from wdp_edge.data.loading import Views, load_images, load_labelled, readable
from wdp_edge.data.preprocess import Preprocessing, normalise, preprocessing_of
from wdp_edge.data.split import Sample, balanced_sample, hold_out
from wdp_edge.data.stream import Augmentation, StreamOptions, TrainStream
from wdp_edge.data.unlabelled import is_unlabelled
from wdp_edge.data.worker import IGNORED
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Facts, Labels, Task, get_task
from wdp_edge.pruning.plausible import Seen, doubts
from wdp_edge.shrink.streams import images_within
from wdp_edge.workers.parallel import world

_FEWEST_HELD, _FEWEST_PROVING = 2, 10
Folders = tuple[ImageFolder, ImageFolder]


def listed(recipe: Recipe, facts: Facts) -> Folders:
    """Training and validation images as they lie there; none is decoded. Only training images may lack labels.

    Raises InputError for places without sound images or with the same ones, and where the number of classes is open.
    """
    places = Path(recipe.data.train), Path(recipe.data.val)
    bare = [bool(facts.without_labels) and is_unlabelled(place) for place in places]
    if bare[1]:
        raise InputError(
            f"The validation images in {places[1]} have no labels, and {facts.metric} needs them.",
            f'Set task = "{facts.without_labels}" in [model], which `wdp-edge init` does for images without labels.',
        )
    train, val = images_at(places[0], Labels.NONE if bare[0] else facts.labels), images_at(places[1], facts.labels)
    check_apart(train, val)
    if facts.output.of_classes and not recipe.model.num_classes:
        found = f" = {len((train if train.classes else val).classes)}" if facts.named_classes else ""
        raise InputError(
            "The number of classes is not set.",
            f"Set num_classes{found} in [model].",
            {"--num-classes": f"Set num_classes{found} in [model] or give --num-classes."},
        )
    return train, val


@dataclass(frozen=True)
class Data:
    """A recipe's images. They are decoded where they are first asked for, and kept.

    task: what the training images are for; another one than that of the validation images, `final_task`, where only
    these have labels. train_indices, holdout_indices: of the training images, those to learn on and those held back to
    choose by. proofs: on how many images files are compared with their model. names: of the classes, where labels of
    training images do not tell them. labelled_task: that of the validation images, where it is another one.
    """

    options: DataRecipe
    seed: int
    task: Task
    preprocessing: Preprocessing
    train: ImageFolder
    val: ImageFolder
    train_indices: Sequence[int]
    holdout_indices: Sequence[int]
    proofs: int
    names: tuple[str, ...] = ()
    labelled_task: Task | None = None

    @classmethod
    def of(cls, recipe: Recipe, folders: Folders, dense: nn.Module) -> Data:
        """folders: from `listed`. dense: says how its images are prepared, where the recipe does not.

        Raises InputError for classes that are not the model's, and for too many images that cannot be read.
        """
        task: Task = get_task(recipe.model.task)
        facts, options, classes = task.facts, recipe.data, recipe.model.num_classes
        train, val = folders
        if facts.labels is Labels.MASK:
            train, val = (part.with_classes(numbered(classes)) for part in folders)
        if facts.named_classes:
            train, val = settled(train, val, classes, options.class_order)
        preprocessing = preprocessing_of(dense, options.preprocess)
        train, val = (readable(part, preprocessing, options.max_unreadable, options.workers) for part in (train, val))
        least = 2 if facts.of_pairs else 1
        split = hold_out(train, options.holdout_images, recipe.prune.seed, least)
        names = unlabelled_names(classes, options.class_order) if facts.labels is Labels.NONE else val.classes
        final: Task | None = None
        if facts.named_classes and not train.classes:
            task, final = get_task(facts.without_labels), task
        proofs = recipe.verify.images
        return cls(options, recipe.prune.seed, task, preprocessing, train, val, *split, proofs, names, final)

    @property
    def final_task(self) -> Task:
        """What the validation images are for."""
        return self.labelled_task or self.task

    def check_choosable(self) -> None:
        """Raises InputError when too few training images can be held back to choose by."""
        if (held := len(self.holdout_indices)) < _FEWEST_HELD:
            raise InputError(
                f"{'Only one' if held else 'None'} of the {len(self.train)} images in {self.train.root} can be held "
                "back, which is too few to choose by.",
                "Give more images."
                if self.task.facts.labels is Labels.NONE
                else "Give every class two images at least, better ten.",
            )
        check_counted(self.train.subset(list(self.holdout_indices)), self.task.facts, "held-back images")

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 -> normalised float32."""
        return normalise(images, self.preprocessing)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits; none where the model outputs embeddings."""
        return (self.train.classes or self.names) if self.task.facts.output.of_classes else ()

    @property
    def names_of_parts(self) -> tuple[str, ...]:
        """What `Task.drops` calls the parts of the validation images: their classes, or each by its path."""
        return self.class_names or self.val.classes or self.val.paths

    @property
    def input_facts(self) -> InputFacts:
        """What is written beside every file that is made of the model."""
        val = Path(self.options.val).absolute()
        return InputFacts(self.preprocessing, self.class_names, val, self.final_task.facts.name)

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
        return self._sample(self.options.calibration_images)

    def _sample(self, count: int) -> Sample:
        return balanced_sample(self.train, self.train_indices, count, self.seed)

    @cached_property
    def calibration(self) -> Tensor:
        """[n, 3, H, W] uint8, in an order in which every prefix is mixed over the classes."""
        indices = self.sample.indices(self.train)
        generator = torch.Generator().manual_seed(self.seed)
        mixed = [indices[i] for i in torch.randperm(len(indices), generator=generator).tolist()]
        return load_images(self.train, mixed, self.preprocessing, self.options.workers, "read calibration images")

    def refit_images(self, dense: nn.Module, options: CompensateRecipe) -> Views:
        """Training images that a model cut from `dense` is refitted on; the calibration images are among them."""
        indices = self._sample(self.refit_count(dense, options)).indices(self.train)
        return Views(self.train, indices, self.preprocessing, self.options.workers, "read images for the refit")

    def refit_count(self, dense: nn.Module, options: CompensateRecipe) -> int:
        """How many these are."""
        return min(options.images, images_within(dense, options.scratch_gb * 1e9), len(self.train_indices))

    @cached_property
    def holdout(self) -> tuple[Tensor, Tensor]:
        """Held-back training images [n, 3, H, W] uint8 and their labels: what choices are made on."""
        return self._labelled(self.holdout_indices, "read held-back images")

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
        of_pairs = self.task.facts.of_pairs
        places = spread_pairs(labels, self.proofs) if of_pairs else spread(len(images), self.proofs)
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
        return self._labelled(every, "read training images")

    def _labelled(self, indices: Sequence[int], title: str) -> tuple[Tensor, Tensor]:
        return load_labelled(self.train, indices, self.preprocessing, self.options.workers, title)

    def example(self) -> Tensor:
        """[1, 3, H, W] float32."""
        return self.prepare(self.proof_images[0][:1])

    def stream(self, batch_size: int, first: int) -> TrainStream:
        """This process's augmented training images, never held-back ones.

        first: tells the streams of different stages apart.
        """
        options = StreamOptions(
            batch_size=batch_size,
            seed=self.seed * 16 + first,
            workers=self.options.workers,
            augmentation=Augmentation(flip=self.options.flip, min_crop=self.options.min_crop),
            world=world(),
        )
        return TrainStream(self.train, self.train_indices, self.preprocessing, options)

    def doubts(self, outputs: Tensor, labels: Tensor) -> list[str]:
        """What speaks against the dense model, from its outputs for training images, and classes without images."""
        seen = Seen.of(self.task.facts.name, outputs, labels, self.train)
        return doubts(seen) + absent(self.train, self.val, self.task.facts)


def numbered(classes: int) -> tuple[str, ...]:
    """Names of the classes of masks: their numbers. Raises InputError for more than a mask can hold."""
    if classes > IGNORED:
        raise InputError(
            f"Masks hold {IGNORED} classes at most, not {classes}.", "Take a head with fewer classes in [model]."
        )
    return tuple(map(str, range(classes)))
