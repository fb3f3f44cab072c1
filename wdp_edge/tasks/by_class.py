"""Differences of dense and shipped outcomes on the same images, by class, with 95 % intervals. No torch.

Images are paired: both models saw each of them, and what they share cancels out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from wdp_edge.runs.drops import Drop, Drops

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 1000
WORST_IMAGES = 20
_MISSED = 0.05
# How much of it goes to the share of images that differ; the rest to which way they do, which decides with many images.
_MISSED_SHARE = 0.01
_AT_ONCE = 2_000_000


def paired_interval(lost: Ints, gained: Ints, images: Ints) -> tuple[Floats, Floats]:
    """At least 95 % intervals of P(lost) - P(gained), [k] each in [-1, 1], from images that are drawn independently.

    lost, gained: [k] images that the dense model alone, or the shipped file alone, gets right, of `images` [k]. Exact:
    images that differ are a share d of all, lost ones a share t of these (McNemar's discordant pairs), the difference
    is d(2t - 1), and both have Clopper and Pearson's intervals, d at 99 % and t at 96 %, so that both hold in 95 % of
    cases. Without images: [-1, 1].
    """
    least, most = _share(lost + gained, images, _MISSED_SHARE)

    def low(ours: Ints, theirs: Ints) -> Floats:
        tilt = 2 * _share(ours, ours + theirs, _MISSED - _MISSED_SHARE)[0] - 1
        return np.where(tilt > 0, least, most) * tilt

    return low(lost, gained), -low(gained, lost)


def _share(hits: Ints, tries: Ints, missed: float) -> tuple[Floats, Floats]:
    """Clopper and Pearson's interval of a share, [k] each; [0, 1] without tries."""

    def low(hits: Ints) -> Floats:
        some = hits > 0
        return np.where(some, betaincinv(np.where(some, hits, 1), np.maximum(tries - hits, 0) + 1, missed / 2), 0.0)

    return low(hits), 1 - low(tries - hits)


def paired_drops(
    before: NDArray[np.bool_], after: NDArray[np.bool_], groups: Ints, names: Sequence[str], metric: str
) -> Drops:
    """before, after: [n] whether dense model and shipped file get an image right; groups: [n] the place of its class in
    `names`. metric: what the share of right ones is called.
    """

    def counted(chosen: NDArray[np.bool_]) -> Ints:
        by_group = np.bincount(groups[chosen], minlength=len(names)).astype(np.int64)
        return np.append(by_group, chosen.sum())

    images = counted(np.ones_like(before))
    right, kept = counted(before), counted(after)
    low, high = paired_interval(counted(before & ~after), counted(after & ~before), images)
    drops = [
        _drop(name, n, (was / n, now / n, (was - now) / n, *ends)) if n else Drop(name, 0)
        for name, n, was, now, *ends in zip(
            (*names, "all"), images.tolist(), right.tolist(), kept.tolist(), low.tolist(), high.tolist(), strict=True
        )
    ]
    return Drops("class", metric, "exact", drops[-1], drops[:-1], int((images[:-1] > 0).sum()))


def answer_drops(same: NDArray[np.bool_], answers: Ints, names: Sequence[str], metric: str) -> Drops:
    """Images by the dense model's answers, which none of them misses.

    same: [n] whether the shipped file gives the dense model's answer; answers: [n] its place in `names`. Intervals are
    Clopper and Pearson's. Classes that are no image's answer are left out.
    """
    images = np.append(np.bincount(answers, minlength=len(names)), len(answers)).astype(np.int64)
    lost = np.append(np.bincount(answers[~same], minlength=len(names)), (~same).sum()).astype(np.int64)
    low, high = _share(lost, images, _MISSED)
    drops = [
        _drop(name, n, (1.0, 1 - gone / n, gone / n, *ends))
        for name, n, gone, *ends in zip(
            (*names, "all"), images.tolist(), lost.tolist(), low.tolist(), high.tolist(), strict=True
        )
        if n
    ]
    return Drops("class", metric, "binomial", drops[-1], drops[:-1], len(drops) - 1)


Measure = Callable[[Floats], tuple[Floats, Floats]]
"""weights [b, n] of the images -> metric of dense model and shipped file by class, [b, K] each; NaN where unknown."""


def resampled_drops(measure: Measure, shown: Ints, images: int, names: Sequence[str], metric: str) -> Drops:
    """Intervals of what is not a mean over images, by resampling the images (paired bootstrap, fixed seed).

    shown: [K] images that show each class. overall: mean over the classes that are shown. See `widened`.
    """
    before, after = (_with_mean(found)[0] for found in measure(np.ones((1, images))))
    sampled = [[_with_mean(found) for found in measure(weights)] for weights in resamples(images)]
    differences = np.concatenate([was - now for was, now in sampled])
    drops = [
        _drop(name, n, (was, now, was - now, *widened(differences[:, place], n)))
        if n and np.isfinite(was)
        else Drop(name, n)
        for place, (name, n, was, now) in enumerate(
            zip((*names, "all"), (*shown.tolist(), images), before.tolist(), after.tolist(), strict=True)
        )
    ]
    return Drops("class", metric, "bootstrap", drops[-1], drops[:-1], int((shown > 0).sum()))


def _with_mean(found: Floats) -> Floats:
    """[b, K] -> [b, K + 1], with the mean over what is known."""
    known = np.isfinite(found)
    total = np.where(known, found, 0.0).sum(1) / np.maximum(known.sum(1), 1)
    return np.column_stack([found, np.where(known.any(1), total, np.nan)])


def image_drops(cosines: Floats, names: Sequence[str], metric: str) -> Drops:
    """Embeddings compared with the dense model's: [n] cosines. The parts are the images that changed most."""
    lost = 1 - cosines
    sampled = np.concatenate([weights @ lost / len(lost) for weights in resamples(len(lost))])
    low, high = widened(sampled, len(lost), least=0.0)
    mean = float(lost.mean())
    order = np.argsort(-lost, kind="stable")[:WORST_IMAGES].tolist()
    parts = [Drop(names[i], 1, 1.0, float(cosines[i]), 100 * float(lost[i])) for i in order]
    spread = (100 * np.percentile(lost, np.arange(101))).tolist()
    overall = _drop("all", len(lost), (1.0, 1 - mean, mean, low, high))
    return Drops("image", metric, "bootstrap", overall, parts, len(lost), spread)


def _drop(name: str, images: int, shares: tuple[float, ...]) -> Drop:
    """shares: dense, shipped, and the loss with the ends of its interval."""
    before, after, *lost = map(float, shares)
    return Drop(name, images, before, after, *(100 * share + 0.0 for share in lost))


def resamples(images: int) -> Iterator[Floats]:
    """How often each image is drawn, in RESAMPLES draws of `images` with replacement: [b, images], some at a time."""
    generator = np.random.default_rng(0)
    rows = max(1, min(RESAMPLES, _AT_ONCE // images))
    for first in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - first)
        drawn = generator.integers(0, images, (count, images)) + images * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * images).reshape(count, images).astype(np.float64)


def widened(sampled: Floats, images: int, least: float = -1.0) -> tuple[float, float]:
    """The interval of a loss in [least, 1] from its bootstrap samples [b] of so many images.

    A bootstrap knows only what it has seen: with few images, or where none differs, its interval is far too narrow. So
    the inner 97.5 % of the samples are widened by the share u of images of a kind that may be missing among so many,
    (1 - u)^images = 2.5 %, which may lose everything or gain as much. With many images that is little: 3.7 / images.
    """
    low, high = np.nanquantile(sampled, [0.0125, 0.9875])
    unseen = 1 - 0.025 ** (1 / images)
    return float((1 - unseen) * low + unseen * least), float((1 - unseen) * high + unseen)


def average_precision(scores: Floats, shown: NDArray[np.bool_], weights: Floats) -> Floats:
    """Average precision of images ranked by score, as scikit-learn has it: [b]; NaN where no shown image has weight.

    scores, shown: [n]; weights: [b, n]. Images of equal score count together.
    """
    order = np.argsort(-scores, kind="stable")
    scores, shown, weights = scores[order], shown[order], weights[:, order]
    last = np.searchsorted(-scores, -scores[shown], side="right") - 1  # of the images with the score of a shown one
    found, ranked = np.cumsum(weights * shown, 1)[:, last], np.cumsum(weights, 1)[:, last]
    own = weights[:, shown]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(ranked > 0, found / ranked, 0.0)
        result: Floats = (own * precision).sum(1) / own.sum(1)
    return result
