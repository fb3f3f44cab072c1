"""Whether a dense model makes sense of its own training images: better than guessing, and in the order of its labels.

Wrong preprocessing, another order of classes or a wrong checkpoint raise no error anywhere: they only make a model bad.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wdp_edge.data.classes import arranged
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.worker import IGNORED
from wdp_edge.protocols.task import ALPHABETICAL, NATURAL, Labels, Output, facts_of, get_task
from wdp_edge.tasks.similarity import first_hits

LEVEL = 0.01
"""Of every test here: a model that guesses passes for one that does not in one case of a hundred."""
_SHUFFLES = 999
_FEWEST = 6  # images: of fewer, no shuffling is rarer than LEVEL
_ENOUGH, _ALIKE = 32, 0.98  # images, and the share of them with one answer
_STILL = 0.01  # spread of embeddings over images, as a share of their size: trained models and most others have 0.7
_VAGUE = 10  # times what guessing gives, for a model with many classes
_PREPARED = (
    "Usual reasons: images are prepared otherwise than in training (preprocess in [data], --preprocess of init: mean, "
    "std, interpolation, crop_pct, channels);"
)
_CHECKPOINT = "another model's checkpoint, or one whose head was not trained (checkpoint in [model])."
_REASONS = f"{_PREPARED} its classes are in another order (class_order in [data], --class-order of init); {_CHECKPOINT}"


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

    def part(self, places: Tensor) -> Seen:
        return replace(self, outputs=self.outputs[places], labels=self.labels[places])


def doubts(seen: Seen) -> list[str]:
    """What speaks against the model, its images or its classes; [] where nothing does."""
    facts = facts_of(seen.task)
    if not len(seen.outputs):
        return []
    return [text for check in _CHECKS.get((facts.output, facts.labels), ()) for text in check(seen)]


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
    if facts_of(one.task).labels is Labels.MANY:
        return one.metric > other.metric and not shuffled_as_well(_fit_of_several(one))
    return more_often(_right(one), _right(other))


def more_often(one: Tensor, other: Tensor) -> bool:
    """Whether `one` is true of more images than `other`: McNemar's exact test. Both [n] bool."""
    return surpasses(int((one & ~other).sum()), int((other & ~one).sum()), LEVEL)


def surpasses(won: int, lost: int, level: float) -> bool:
    """Whether so many wins against so many losses are beyond chance: the one-sided exact sign test."""
    from scipy.stats import binomtest

    return won > lost and bool(binomtest(won, won + lost, 0.5, alternative="greater").pvalue <= level)


def scores_of(task: str) -> Callable[[Seen], Tensor] | None:
    """What tells how good each answer is, from 0 to 1: [n] float64. Of pairs, among the images that are given.

    None where nothing is known of an image to hold its answer against.
    """
    facts = facts_of(task)
    score = None if facts.relative else _SCORES.get((facts.output, facts.labels))
    return None if score is None else lambda seen: score(seen).double()


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


def guessing(seen: Seen) -> float | None:
    """The task's metric, of guesses; None where it has no such figure."""
    facts = facts_of(seen.task)
    rate = {(Output.LOGITS, Labels.ONE): _guessed_class, (Output.UNIT, Labels.ONE): _guessed_neighbour}
    return rate[facts.output, facts.labels](seen) if (facts.output, facts.labels) in rate else None


def _guessed_class(seen: Seen) -> float:
    """By guesses that give every class as often as the model does."""
    predicted, images = seen.outputs.argmax(1), len(seen.labels)
    shares = [torch.bincount(n, minlength=seen.outputs.shape[1]).double() / images for n in (predicted, seen.labels)]
    return float((shares[0] * shares[1]).sum())


def _guessed_neighbour(seen: Seen) -> float | None:
    """By a neighbour drawn at random, over images that have another one of their label; None where there is none."""
    sizes = torch.bincount(seen.labels).double()
    images = int(sizes[sizes > 1].sum())
    return float((sizes * (sizes - 1)).sum() / (len(seen.labels) - 1) / images) if images else None


def _classes_by_chance(seen: Seen) -> list[str]:
    right, images, rate = int(_right(seen).sum()), len(seen.labels), _guessed_class(seen)
    if not guessed_as_well(right, images, rate):
        return []
    return [_at_chance(seen, f"{right / images:.1%} right, guessing gives {rate:.1%}")]


def _hardly_answers(seen: Seen) -> list[str]:
    """Without labels: all images are answered alike, or none with certainty. To agree with that is worth nothing."""
    images, classes = seen.outputs.shape
    counts = torch.bincount(seen.outputs.argmax(1), minlength=classes)
    certain = float(seen.outputs.double().softmax(1).amax(1).mean())
    if images >= _ENOUGH and int(counts.max()) > _ALIKE * images:
        what = f"gives one class, {int(counts.argmax())}, to {int(counts.max())} of {images} training images"
        reasons = f"{_PREPARED} the images all show the same; {_CHECKPOINT}"
    elif certain < min(_VAGUE / classes, (1 + 0.1 * (classes - 1)) / classes):
        what = f"is sure of nothing on {images} training images: of {classes} classes the likeliest has {certain:.1%}"
        reasons = f"{_PREPARED} the images show other things than its classes; {_CHECKPOINT}"
    else:
        return []
    return [f"The dense model {what}, so agreement with it tells little. {reasons}"]


def _one_embedding(seen: Seen) -> list[str]:
    """Embeddings that hardly depend on the image, as of weights that are zero or were never trained."""
    outputs = seen.outputs.double()
    spread, size = (outputs - outputs.mean(0)).square().mean().sqrt(), outputs.square().mean().sqrt()
    if len(outputs) < _FEWEST or float(spread) > _STILL * float(size):
        return []
    return [
        f"The dense model gives almost the same embedding to all of {len(outputs)} training images, so closeness to it "
        f"tells little. {_PREPARED} the images all show the same; weights that are zero or were not trained "
        "(checkpoint in [model])."
    ]


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


def exchanged(seen: Seen) -> tuple[Tensor, Tensor] | None:
    """Whether each answer is right with the classes exchanged for each other as fits best, and as it is: [n / 2] bool.

    The exchange is found on one half, and these are of the other. None where outputs are not of classes, and where
    there are too few images of each.
    """
    from scipy.optimize import linear_sum_assignment

    facts = facts_of(seen.task)
    one_of_classes = (facts.output, facts.labels) == (Output.LOGITS, Labels.ONE)
    if not one_of_classes or len(seen.labels) < 2 * len(seen.labels.unique()):
        return None
    predicted, labels = seen.outputs.argmax(1), seen.labels
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    counts = torch.zeros(2 * [seen.outputs.shape[1]])
    counts.index_put_((labels[learn], predicted[learn]), torch.ones(len(labels[learn])), accumulate=True)
    counts += 1e-3 * torch.eye(len(counts))  # of equals, leave them as they are
    exchange = torch.from_numpy(linear_sum_assignment(counts.numpy(), maximize=True)[1])
    return exchange[labels[judge]] == predicted[judge], labels[judge] == predicted[judge]


def _unknown_order(seen: Seen) -> list[str]:
    """Classes exchanged for each other fit clearly better."""
    found = exchanged(seen)
    if found is None or not more_often(*found) or _other_order(seen):
        return []
    other, own = found
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


def _rank_precision(seen: Seen) -> Tensor:
    """Label ranking average precision of each image; 1 where it shows nothing."""
    found = torch.ones(len(seen.outputs))
    for number, (row, shown) in enumerate(zip(seen.outputs, seen.labels.bool(), strict=True)):
        if shown.any():
            as_high = row[None, :] >= row[shown][:, None]  # of each class shown, which stand as high
            found[number] = ((as_high & shown).sum(1) / as_high.sum(1)).mean()
    return found


def _several_by_chance(seen: Seen) -> list[str]:
    if not shuffled_as_well(_fit_of_several(seen)):
        return []
    precision = replace(seen, task="multilabel").metric
    return [_at_chance(seen, f"mAP {precision:.1%}, and its outputs fit other images' labels as well")]


def _retrieval_by_chance(seen: Seen) -> list[str]:
    rate = _guessed_neighbour(seen)
    if rate is None:
        return []
    images = int((torch.bincount(seen.labels)[seen.labels] > 1).sum())
    recall = replace(seen, task="retrieve").metric
    if not guessed_as_well(round(recall * images), images, rate):
        return []
    return [_at_chance(seen, f"Recall@1 {recall:.1%}, a random neighbour gives {rate:.1%}")]


def _masks_of_one_class(seen: Seen) -> list[str]:
    known = seen.labels[seen.labels != IGNORED]
    found, ignored = known.unique().tolist(), 1 - known.numel() / max(1, seen.labels.numel())
    if len(found) > 1:
        return []
    but = f" but {found[0]}" if found else ""
    return [
        f"No mask of {len(seen.labels)} training images holds a class{but}: {ignored:.1%} of their pixels are "
        f"{IGNORED}, which is not a class. Where {IGNORED} means the object, write its class number, 1, in its place."
    ]


def _masks_of_patches(seen: Seen) -> Tensor:
    """[n, h, w] int64, of the size of the outputs."""
    size = seen.outputs.shape[2:]
    return F.interpolate(seen.labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def _share_of_patches(seen: Seen) -> Tensor:
    masks = _masks_of_patches(seen)
    known, right = (masks != IGNORED).flatten(1), (seen.outputs.argmax(1) == masks).flatten(1)
    return (right & known).sum(1) / known.sum(1).clamp_min(1)


def _masks_by_chance(seen: Seen) -> list[str]:
    """Neither better than the commonest class everywhere, nor on its own masks better than on other images'."""
    if _masks_of_one_class(seen):
        return []
    masks, predicted = _masks_of_patches(seen), seen.outputs.argmax(1)
    known = masks != IGNORED
    if not known.any():
        return []
    commonest = float(torch.bincount(masks[known]).max() / known.sum())
    right = float((predicted == masks)[known].float().mean())
    fit = torch.stack([((predicted == m) & k).flatten(1).float().mean(1) for m, k in zip(masks, known, strict=True)])
    if right > commonest or (len(fit) >= _FEWEST and not shuffled_as_well(fit)):
        return []
    figures = f"{right:.1%} of the patches right, the commonest class everywhere gives {commonest:.1%}"
    return [_at_chance(seen, figures)]


# By what the model puts out and what is known of an image, so that tasks of other packages are looked at, too.
_CHECKS: dict[tuple[Output, Labels], tuple[Callable[[Any], list[str]], ...]] = {
    (Output.LOGITS, Labels.ONE): (_classes_by_chance, _other_order, _unknown_order),
    (Output.LOGITS, Labels.NONE): (_hardly_answers,),
    (Output.LOGITS, Labels.MANY): (_several_by_chance, _other_order),
    (Output.UNIT, Labels.ONE): (_retrieval_by_chance,),
    (Output.EMBEDDING, Labels.NONE): (_one_embedding,),
    (Output.MAP, Labels.MASK): (_masks_of_one_class, _masks_by_chance),
}

# Of the same pairs; each image on its own, except in retrieval.
_SCORES: dict[tuple[Output, Labels], Callable[[Seen], Tensor]] = {
    (Output.LOGITS, Labels.ONE): _right,
    (Output.LOGITS, Labels.MANY): _rank_precision,
    (Output.UNIT, Labels.ONE): lambda seen: first_hits(seen.outputs, seen.labels),
    (Output.MAP, Labels.MASK): _share_of_patches,
}
