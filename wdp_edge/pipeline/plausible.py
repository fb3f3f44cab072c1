"""Whether a dense model makes sense of its own training images: better than guessing, and in the order of its labels.

Wrong preprocessing, another order of classes or a wrong checkpoint raise no error anywhere: they only make a model bad.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.data.classes import arranged
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.labels import labels_of
from wdp_edge.data.loading import Request, decoded, named, view_of
from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.data.split import balanced_choice, balanced_counts
from wdp_edge.data.worker import IGNORED
from wdp_edge.task import ALPHABETICAL, NATURAL, Labels, facts_of, get_task

LEVEL = 0.01
"""Of every test here: a model that guesses passes for one that does not in one case of a hundred."""
_SHUFFLES = 999
_FEWEST = 6  # images: of fewer, no shuffling is rarer than LEVEL
_LARGE = 60_000_000  # parameters, from which fewer images have to do
_BATCH = 32
_REASONS = (
    "Usual reasons: images are prepared otherwise than in training (preprocess in [data], --preprocess of init: mean, "
    "std, interpolation, crop_pct); its classes are in another order (class_order in [data], --class-order of init); "
    "another model's checkpoint, or one whose head was not trained (checkpoint in [model])."
)


@dataclass(frozen=True)
class Plausible:
    """Stage `plausible`: what has to be said of the dense model and its images."""

    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """What the dense model says of some training images. outputs, labels: as the task's `Task` takes them.

    classes: in the order of the labels; () where labels are numbers, whose order is no question.
    """

    task: str
    outputs: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: str, outputs: Tensor, labels: Tensor, folder: ImageFolder) -> Seen:
        named_classes = facts_of(task).named_classes and not folder.numbered
        return cls(task, outputs, labels, folder.classes if named_classes else ())

    @property
    def metric(self) -> float:
        return next(iter(get_task(self.task).metrics(self.outputs, self.labels, None).values()))


@torch.no_grad()
def look(dense: nn.Module, folder: ImageFolder, preprocessing: Preprocessing, task: str) -> tuple[Seen, list[str]]:
    """The dense model on some training images of all classes, and what to say of those that cannot be read."""
    count = 128 if sum(p.numel() for p in dense.parameters()) < _LARGE else 64
    groups = folder.by_class()
    count = max(count, 2 * len(groups)) if len(groups) < count else count
    chosen = balanced_choice(groups, balanced_counts([len(group) for group in groups], count), 0)
    outputs: list[Tensor] = []
    labels: list[Tensor] = []
    errors: dict[str, str] = {}
    parts = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    answers = decoded(view_of(folder, preprocessing), (Request.of(folder, part) for part in parts), 0)
    with progress.task("dense model on some training images", len(chosen)) as advance:
        for part, batch in zip(parts, answers, strict=True):
            errors |= batch.errors
            sound = [place for place, index in enumerate(part) if folder.paths[index] not in batch.errors]
            if sound:
                outputs.append(dense(normalise(batch.images[sound], preprocessing)))
                masks = None if batch.masks is None else batch.masks[sound]
                labels.append(labels_of(folder, [part[place] for place in sound], masks))
            advance(len(part))
    said = [f"{named(folder, errors)}."] if errors else []
    if not outputs:
        return Seen(task, torch.empty(0, 0), torch.empty(0)), said
    return Seen.of(task, torch.cat(outputs), torch.cat(labels), folder), said


def doubts(seen: Seen) -> list[str]:
    """What speaks against the model, its images or its classes; [] where nothing does."""
    if facts_of(seen.task).relative or not len(seen.outputs):
        return []
    return [text for check in _CHECKS[seen.task] for text in check(seen)]


@dataclass(frozen=True)
class OrderFound:
    """The order of class names that the model agrees with. figures: the task's metric with each order."""

    order: str
    figures: dict[str, float]
    images: int


def fitting_order(seen: Seen) -> OrderFound | None:
    """None where both orders of the names are the same. Alphabetical unless the natural one is clearly better."""
    orders = {order: arranged(seen.classes, order) for order in (ALPHABETICAL, NATURAL)}
    if orders[ALPHABETICAL] == orders[NATURAL] or not len(seen.outputs):
        return None
    under = {order: renumbered(seen, classes) for order, classes in orders.items()}
    figures = {order: one.metric for order, one in under.items()}
    better = clearly_better(under[NATURAL], under[ALPHABETICAL])
    return OrderFound(NATURAL if better else ALPHABETICAL, figures, len(seen.outputs))


def renumbered(seen: Seen, classes: tuple[str, ...]) -> Seen:
    """The same images, had the names this order."""
    place = {name: number for number, name in enumerate(classes)}
    numbers = torch.tensor([place[name] for name in seen.classes])
    if facts_of(seen.task).labels is Labels.MANY:
        return replace(seen, classes=classes, labels=torch.zeros_like(seen.labels).index_copy(1, numbers, seen.labels))
    return replace(seen, classes=classes, labels=numbers[seen.labels])


def clearly_better(one: Seen, other: Seen) -> bool:
    """Whether the first labels fit the outputs better, and not by chance."""
    if one.task == "multilabel":
        return one.metric > other.metric and not shuffled_as_well(_fit_of_several(one))
    return more_often(_right(one), _right(other))


def more_often(one: Tensor, other: Tensor) -> bool:
    """Whether `one` is true of more images than `other`: McNemar's exact test. Both [n] bool."""
    from scipy.stats import binomtest

    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return won > lost and bool(binomtest(won, won + lost, 0.5, alternative="greater").pvalue <= LEVEL)


def _right(seen: Seen) -> Tensor:
    return seen.outputs.argmax(1) == seen.labels


def guessed_as_well(right: int, images: int, rate: float) -> bool:
    """Whether so many right answers are no more than guessing gives: the one-sided exact binomial test.

    rate: share that guessing gets right. Of images too few for any number to be beyond chance, fewer than that count.
    """
    from scipy.stats import binomtest

    if right == images:
        return False
    if rate**images > LEVEL:
        return right <= rate * images
    return bool(binomtest(right, images, rate, alternative="greater").pvalue > LEVEL)


def shuffled_as_well(fit: Tensor) -> bool:
    """Whether outputs fit the labels of other images as well as their own: a permutation test.

    fit: [n, n], how well the outputs of image j fit the labels of image i. False where there are too few to tell.
    """
    count = len(fit)
    if count < _FEWEST:
        return False
    generator, rows = torch.Generator().manual_seed(0), torch.arange(count)
    own = float(fit.diagonal().double().sum())
    others = [float(fit[rows, torch.randperm(count, generator=generator)].double().sum()) for _ in range(_SHUFFLES)]
    tolerance = 1e-9 * (abs(own) + 1)
    return (1 + sum(other >= own - tolerance for other in others)) / (_SHUFFLES + 1) > LEVEL


def _at_chance(seen: Seen, figures: str) -> str:
    images = len(seen.outputs)
    return f"The dense model is no better than chance on {images} training images: {figures}. {_REASONS}"


def _classes_by_chance(seen: Seen) -> list[str]:
    right, images, predicted = int(_right(seen).sum()), len(seen.labels), seen.outputs.argmax(1)
    shares = [torch.bincount(n, minlength=seen.outputs.shape[1]).double() / images for n in (predicted, seen.labels)]
    rate = float((shares[0] * shares[1]).sum())
    if not guessed_as_well(right, images, rate):
        return []
    return [_at_chance(seen, f"{right / images:.1%} right, guessing gives {rate:.1%}")]


def _other_order(seen: Seen) -> list[str]:
    """The other one of the two usual orders fits clearly better."""
    for order in (ALPHABETICAL, NATURAL) if seen.classes else ():
        classes = arranged(seen.classes, order)
        if classes != seen.classes and clearly_better(other := renumbered(seen, classes), seen):
            metric = facts_of(seen.task).metric
            return [
                f"The dense model's classes seem to be in {order} order: {metric} is {other.metric:.1%} with it on "
                f"{len(seen.outputs)} training images, {seen.metric:.1%} as it is. "
                f'Set class_order = "{order}" in [data] (--class-order of init).'
            ]
    return []


def _unknown_order(seen: Seen) -> list[str]:
    """Classes exchanged for each other fit clearly better; the exchange is found on one half, judged on the other."""
    from scipy.optimize import linear_sum_assignment

    predicted, labels = seen.outputs.argmax(1), seen.labels
    if len(labels) < 2 * len(labels.unique()) or _other_order(seen):
        return []
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    counts = torch.zeros(2 * [seen.outputs.shape[1]])
    counts.index_put_((labels[learn], predicted[learn]), torch.ones(len(labels[learn])), accumulate=True)
    counts += 1e-3 * torch.eye(len(counts))  # of equals, leave them as they are
    exchange = torch.from_numpy(linear_sum_assignment(counts.numpy(), maximize=True)[1])
    other, own = exchange[labels[judge]] == predicted[judge], labels[judge] == predicted[judge]
    if not more_often(other, own):
        return []
    return [
        f"The dense model's classes seem to be in another order than the labels: with its classes exchanged it is "
        f"{float(other.float().mean()):.1%} right on {len(own)} training images, {float(own.float().mean()):.1%} as it "
        "is. Name them in the model's order in a text file, one per line, and set class_order in [data] "
        "(--class-order of init) to it; labels that are whole numbers count from 0. A head that was not trained does "
        "this, too."
    ]


def _fit_of_several(seen: Seen) -> Tensor:
    """How far the outputs of image j stand out in the classes of image i: [n, n]."""
    scores = seen.outputs.float()
    spread = scores.std(0)
    scores = torch.where(spread > 0, (scores - scores.mean(0)) / spread.clamp_min(1e-12), 0.0)
    return seen.labels @ scores.T


def _several_by_chance(seen: Seen) -> list[str]:
    if not shuffled_as_well(_fit_of_several(seen)):
        return []
    return [_at_chance(seen, f"mAP {seen.metric:.1%}, and its outputs fit other images' labels as well")]


def _retrieval_by_chance(seen: Seen) -> list[str]:
    """Against a neighbour drawn at random, over images that have another one of their label."""
    sizes = torch.bincount(seen.labels).double()
    images = int(sizes[sizes > 1].sum())
    if not images:
        return []
    rate = float((sizes * (sizes - 1)).sum() / (len(seen.labels) - 1) / images)
    if not guessed_as_well(round(seen.metric * images), images, rate):
        return []
    return [_at_chance(seen, f"Recall@1 {seen.metric:.1%}, a random neighbour gives {rate:.1%}")]


def _masks_of_one_class(seen: Seen) -> list[str]:
    known = seen.labels[seen.labels != IGNORED]
    found, ignored = known.unique().tolist(), 1 - known.numel() / max(1, seen.labels.numel())
    if len(found) > 1:
        return []
    but = f" but {found[0]}" if found else ""
    return [
        f"No mask of {len(seen.labels)} training images holds a class{but}: {ignored:.1%} of their pixels are "
        f"{IGNORED}, which is no class. Where {IGNORED} means the object, write its class number, 1, in its place."
    ]


def _masks_by_chance(seen: Seen) -> list[str]:
    """Neither better than the commonest class everywhere, nor on its own masks better than on other images'."""
    if _masks_of_one_class(seen):
        return []
    masks = F.interpolate(seen.labels[:, None].float(), size=seen.outputs.shape[2:], mode="nearest-exact")[:, 0].long()
    predicted, known = seen.outputs.argmax(1), masks != IGNORED
    if not known.any():
        return []
    commonest = float(torch.bincount(masks[known]).max() / known.sum())
    right = float((predicted == masks)[known].float().mean())
    fit = torch.stack([((predicted == m) & k).flatten(1).float().mean(1) for m, k in zip(masks, known, strict=True)])
    if right > commonest or (len(fit) >= _FEWEST and not shuffled_as_well(fit)):
        return []
    figures = f"{right:.1%} of the patches right, the commonest class everywhere gives {commonest:.1%}"
    return [_at_chance(seen, figures)]


_CHECKS: dict[str, tuple[Callable[[Any], list[str]], ...]] = {
    "classify": (_classes_by_chance, _other_order, _unknown_order),
    "multilabel": (_several_by_chance, _other_order),
    "retrieve": (_retrieval_by_chance,),
    "segment": (_masks_of_one_class, _masks_by_chance),
}
