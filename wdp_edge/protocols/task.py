"""What a task is: what a model is for, its losses and figures, and what its file outputs.

Tasks are found through the entry-point group `wdp_edge.tasks`. Their facts need no torch; their arithmetic is imported
when it is used.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

from wdp_edge.errors import InputError, SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from wdp_edge.runs.drops import Drops

GROUP = "wdp_edge.tasks"
ALPHABETICAL, NATURAL = "alphabetical", "natural"
"""Orders of class names: torchvision's and timm's."""


class Output(StrEnum):
    """What a model outputs: one value per class, for the image or for each patch, what its head would read, or that
    scaled to length 1."""

    LOGITS = "logits"
    EMBEDDING = "embedding"
    UNIT = "unit embedding"
    MAP = "class map"

    @property
    def of_classes(self) -> bool:
        """Whether the head has classes."""
        return self in (Output.LOGITS, Output.MAP)


class Labels(StrEnum):
    """What is known of an image: nothing, its class, all classes that it shows, or the class of every pixel."""

    NONE = "none"
    ONE = "one class"
    MANY = "any number of classes"
    MASK = "mask"


@dataclass(frozen=True)
class Facts:
    """A task in words. An entry point of the group `wdp_edge.tasks` calls it by its name.

    metric: what results call `accuracy`. title: the same in a report. agreement: what two forms of a model share on an
    image. relative: the metric compares with the dense model's outputs, so it is 1 for the dense model itself.
    home: where its arithmetic, a `Task`, is: "module:attribute". without_labels: the task that takes its place where
    images have no labels; "" where it cannot do without. note: what to know when its figures are read.
    """

    name: str
    metric: str
    title: str
    agreement: str
    output: Output
    labels: Labels
    relative: bool
    home: str
    without_labels: str = ""
    note: str = ""

    @property
    def of_pairs(self) -> bool:
        """Whether the metric compares images of a class with each other."""
        return self.output is Output.UNIT

    @property
    def of_answers(self) -> bool:
        """Whether the metric is the agreement: the share of images that are answered as the dense model answers."""
        return self.relative and self.output is Output.LOGITS

    @property
    def named_classes(self) -> bool:
        """Whether the outputs are of classes that the labels name."""
        return self.output.of_classes and self.labels in (Labels.ONE, Labels.MANY)


class Task(Protocol):
    """The arithmetic of a task.

    Outputs are float32: logits or embeddings of n images, [n, K], or logits of their patches, [n, K, h, w].

    teacher, dense: the dense model's outputs for the same images. labels: as `wdp_edge.data.loading.labels_of` gives
    them: [n] int64, zeros where there are none; [n, K] float32 of ones and zeros where an image has several; masks
    [n, H, W] uint8.
    """

    facts: Facts

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """How far outputs are from the dense model's, mean over images: []. Selection takes the least.

        temperature: softening of logits.
        """

    def loss(
        self, outputs: Tensor, teacher: Tensor, labels: Tensor, share: float, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """What training minimises, and the part of it that needs no labels (for curves): [] each.

        share: weight of the dense model against the labels, 0 to 1. temperature: as in `divergence`.
        """

    def probe(self, outputs: Tensor, generator: Generator) -> Tensor:
        """A random scalar whose squared gradients are, in expectation, the diagonal of the Fisher information: [].

        A sum over images. Small changes of what the outputs are made from then cost, in divergence, half the
        information times the squared change.
        """

    def agreement(self, reference: Tensor, outputs: Tensor, unsure: float = 0.0) -> float:
        """Share of images, 0 to 1, that both treat alike; where an image can be treated alike in part, its mean.

        unsure: an answer that so small a difference of outputs decides in the reference counts as the same.
        """

    def metrics(self, outputs: Tensor, labels: Tensor, dense: Tensor | None) -> dict[str, float]:
        """Figures by name, each in [0, 1], more is better; the first is the task's metric.

        NaN where no image counts: a figure over nothing is none. dense may be None where the task is not relative.
        """

    def drops(self, dense: Tensor, shipped: Tensor, labels: Tensor, names: Sequence[str]) -> Drops:
        """What each class loses from the dense model's outputs to the shipped file's, for the same images.

        names: of the classes, in the order of the labels or of the logits, or of the images where there are neither.
        """


def defined(value: float, metric: str, where: str) -> float:
    """`value`. Raises InputError for NaN: no image of `where` counts for this metric."""
    if math.isnan(value):
        raise InputError(f"{metric} is not defined on {where}: {_NOTHING}.", _WHAT_COUNTS)
    return value


_NOTHING = "none of the images counts"
_WHAT_COUNTS = (
    "For Recall@1 an image needs another of its class, for mAP some image must have a label, for mIoU masks need "
    "pixels of a class: add images."
)


def task_names() -> list[str]:
    """Names for `task` in [model]."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def facts_of(name: str) -> Facts:
    """Raises InputError for an unknown name, SetupError for a task that cannot be imported."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        known = f"Installed tasks: {', '.join(sorted(found))}."
        raise InputError(f"There is no task '{name}'.", f"Did you mean {near[0]}?" if near else known)
    facts: Facts = _loaded(found[name])
    if facts.name != name:
        raise SetupError(f"Task '{name}' calls itself '{facts.name}'.", f"Give it one name in {_package(found[name])}.")
    return facts


def labelled_twin(name: str) -> str:
    """The task that this one takes the place of where images have no labels; "" where there is none."""
    return next((other for other in task_names() if facts_of(other).without_labels == name), "")


def get_task(name: str) -> Task:
    """The task of this name. Raises InputError for an unknown one, SetupError for one that cannot be imported."""
    task: Task = _loaded(EntryPoint(name, facts_of(name).home, GROUP))
    return task


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except ImportError as error:
        raise SetupError(
            f"Task '{entry.name}' cannot be imported: {error}.", f"Install what {_package(entry)} needs."
        ) from error


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module
