"""Which other way to prepare images fits a dense model better than the one that is set, and not by chance.

Exact sign tests over training images, for classes McNemar's test, at a level divided by the number of ways. An answer
that is right cannot become better, so only the other images are prepared anew at first: of a sound model these are few.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wdp_edge import progress
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import Request, decoded, view_of
from wdp_edge.data.preprocess import normalise
from wdp_edge.protocols.task import facts_of
from wdp_edge.pruning.plausible import LEVEL, Seen, surpasses
from wdp_edge.pruning.ways import Way, ways_beside
from wdp_edge.runs.look import Fit

SECONDS = 20.0
"""What trying all ways may take, about; one that is far better is followed up beyond it."""
_WORTH = 0.02  # of the task's metric: for less nobody changes anything
_ROUNDS = (8, 32)  # images that could do better, after which ways are dropped where time is short
_FEWEST = 4
_CONFIRMED = 3
_BATCH = 32


Score = Callable[[Seen], Tensor]


@dataclass(frozen=True)
class Sampled:
    """Training images that the dense model has answered for.

    indices: in `folder`, [n]. images: [n, 3, H, W] uint8, decoded in `way`. answer: the dense model on normalised
    images, [b, 3, H, W] float32.
    """

    folder: ImageFolder
    indices: Sequence[int]
    images: Tensor
    seen: Seen
    way: Way
    answer: Callable[[Tensor], Tensor]

    def part(self, places: Tensor) -> Sampled:
        indices = [self.indices[place] for place in places.tolist()]
        return replace(self, indices=indices, images=self.images[places], seen=self.seen.part(places))

    def pixels(self, way: Way) -> tuple[Tensor, Tensor]:
        """The same images, [n, 3, H, W] uint8, and their labels, as another way decodes them."""
        if way.decoding == self.way.decoding:
            return self.images, self.seen.labels
        folder = self.folder
        (batch,) = decoded(view_of(folder, way.preprocessing), [Request.of(folder, self.indices)], 0)
        return batch.images, self.seen.labels if batch.masks is None else batch.masks

    @torch.no_grad()
    def prepared(self, way: Way) -> Sampled:
        """The same images, prepared another way and answered for anew."""
        images, labels = self.pixels(way)
        answers = []
        for part in images.split(_BATCH):
            values = normalise(part, way.preprocessing)
            answers.append(self.answer(values.flip(1) if way.reverse else values))
        seen = replace(self.seen, outputs=torch.cat(answers), labels=labels)
        return replace(self, images=images, seen=seen, way=way)


@dataclass(frozen=True)
class Tried:
    """What came of other ways. ways: in words. why_not: why there are none. fit: clearly better, and what it gives."""

    ways: list[str] = field(default_factory=list)
    why_not: str = ""
    fit: Fit | None = None
    seen: Seen | None = None


def try_others(sampled: Sampled, score: Score, seconds: float = SECONDS) -> Tried:
    """Changes one thing, and where that fits clearly better, one more. score: of each answer, as `scores_of` gives."""
    deadline = time.monotonic() + seconds
    ways = ways_beside(sampled.way)
    if why_not := _hopeless(score(sampled.seen), len(ways)):
        return Tried(why_not=why_not)
    best, names = sampled, [way.short for way in ways]
    while ways and not _hopeless(score(best.seen), len(ways)):
        found = _Search(best, score, len(ways), deadline).best(ways)
        if found is None:
            break
        best, ways = found, ways_beside(found.way)
    if best is sampled:
        return Tried(names)
    chosen = set(best.indices)
    as_set = sampled.part(torch.tensor([i for i, index in enumerate(sampled.indices) if index in chosen]))
    way, value = best.way, best.seen.metric
    return Tried(names, "", Fit(way.words, way.settings, value, as_set.seen.metric, len(chosen)), best.seen)


def _hopeless(scores: Tensor, ways: int) -> str:
    """Why no way can be clearly better, whatever it gives; "" where one can."""
    missing = 1 - scores
    if float(missing.mean()) < _WORTH:
        return "no other way to prepare images can be much better"
    if int((missing > 0).sum()) < fewest_wins(LEVEL / ways):
        return "too few images answered wrong to tell whether another way to prepare them would be better"
    return ""


def fewest_wins(level: float) -> int:
    """Images that have to do better, where none does worse."""
    return math.ceil(-math.log2(level))


class _Trial:
    """A way, on a growing number of images. base: the images as they are prepared now. number: among the ways."""

    def __init__(self, base: Sampled, score: Score, way: Way, number: int) -> None:
        self._base, self._score, self.way, self.number = base, score, way, number
        self.scores = torch.empty(0)
        self.parts: list[Sampled] = []
        self.places = torch.empty(0, dtype=torch.long)
        self.won = self.lost = 0

    def run(self, places: Tensor) -> None:
        if not len(places):
            return
        self.parts.append(self._base.part(places).prepared(self.way))
        self.places = torch.cat([self.places, places])
        self.scores = self._score(self.seen)
        difference = self.scores - self._score(self._base.seen.part(self.places))
        self.won, self.lost = int((difference > 0).sum()), int((difference < 0).sum())

    @property
    def seen(self) -> Seen:
        outputs, labels = (torch.cat([getattr(p.seen, name) for p in self.parts]) for name in ("outputs", "labels"))
        return replace(self._base.seen, outputs=outputs, labels=labels)

    @property
    def whole(self) -> Sampled:
        images = torch.cat([part.images for part in self.parts])
        return replace(self._base.part(self.places), images=images, seen=self.seen, way=self.way)

    @property
    def gain(self) -> float:
        """Of the task's metric."""
        return self.seen.metric - self._base.seen.part(self.places).metric


class _Search:
    """The best of some ways to change one thing. level: of each test."""

    def __init__(self, base: Sampled, score: Score, ways: int, deadline: float) -> None:
        self._base, self._score, self._deadline, self._level = base, score, deadline, LEVEL / ways
        self._pairs = facts_of(base.seen.task).of_pairs
        # A neighbour is found among all images, so all are needed.
        self._open = torch.ones(len(base.indices), dtype=torch.bool) if self._pairs else score(base.seen) < 1
        self._order = torch.randperm(len(base.indices), generator=torch.Generator().manual_seed(0))
        self._seconds, self._run = 0.0, 0

    def best(self, ways: Sequence[Way]) -> Sampled | None:
        """None where none is clearly better, or where time is too short to tell."""
        trials, start, stop = (
            [_Trial(self._base, self._score, way, number) for number, way in enumerate(ways)],
            0,
            self._first(len(ways)),
        )
        with progress.task("other ways to prepare images", len(ways)) as advance:
            while True:
                done = self._round(trials, self._order[start:stop], stop_late=start > 0)
                advance(len(trials) - len(done))
                trials = done
                kept, after = self._next(trials, stop)
                advance(len(trials) - len(kept))
                trials = kept
                if after == stop or not trials:
                    break
                start, stop = stop, after
            found = self._confirmed(trials, self._order[:stop])
            advance(len(trials))
        return found.whole if found else None

    def _round(self, trials: Sequence[_Trial], places: Tensor, stop_late: bool) -> list[_Trial]:
        """Runs them on those of these images that could do better; with `stop_late` only the first in any case."""
        done: list[_Trial] = []
        places = places[self._open[places]]
        for trial in trials:
            begin = time.monotonic()
            if done and stop_late and begin > self._deadline:
                break
            trial.run(places)
            self._seconds, self._run = self._seconds + time.monotonic() - begin, self._run + len(places)
            done.append(trial)
        return done

    def _first(self, ways: int) -> int:
        """How many images every way is tried on first."""
        if self._pairs:
            return len(self._order)
        start = time.monotonic()
        self._base.part(self._order[:1]).prepared(self._base.way)
        each = ways * (time.monotonic() - start)
        return self._stop(max(_FEWEST, min(_ROUNDS[0], int((self._deadline - start) / 2 / each))))

    def _stop(self, wanted: int) -> int:
        """Images of which `wanted` can be expected to be open. Not where the last of these stands, for a share that
        was waited for is biased."""
        return min(len(self._order), math.ceil(wanted * len(self._order) / int(self._open.sum())))

    def _next(self, trials: list[_Trial], stop: int) -> tuple[list[_Trial], int]:
        """The ways to go on with, and up to which image; `stop` where that is all."""
        left = int(self._open[self._order[stop:]].sum())
        hopeful = sorted((t for t in trials if t.won + left >= fewest_wins(self._level)), key=lambda t: t.lost - t.won)
        if not left or not hopeful:
            return hopeful, stop
        each, seconds = self._seconds / self._run if self._run else 0.0, self._deadline - time.monotonic()
        if each * (left * len(hopeful) + len(self._order)) <= seconds:
            return hopeful, len(self._order)
        after = next((s for s in map(self._stop, _ROUNDS) if s > stop), len(self._order))
        more = int(self._open[self._order[stop:after]].sum())
        count = int(seconds / 2 / (each * more)) if more else len(hopeful)
        first = hopeful[0]
        if count < 1 and not (after <= self._stop(_ROUNDS[-1]) and 2 * (first.won - first.lost) >= len(first.places)):
            return hopeful, stop
        return hopeful[: max(1, count)], after

    def _confirmed(self, trials: Sequence[_Trial], places: Tensor) -> _Trial | None:
        """Also on the images that could only become worse: the best one that is clearly better."""
        fits = list[_Trial]()
        for trial in trials[:_CONFIRMED]:
            if fits and time.monotonic() > self._deadline:
                break
            for part in places[~self._open[places]].split(_BATCH):
                if not surpasses(trial.won, trial.lost, self._level):
                    break
                trial.run(part)
            if surpasses(trial.won, trial.lost, self._level) and trial.gain >= _WORTH:
                fits.append(trial)
        if not fits:
            return None
        best = max(fits, key=lambda t: t.won - t.lost)
        # Of those that are hardly told apart, the likeliest.
        alike = [t for t in fits if t.way.kinds == best.way.kinds and not _clearly_more(best, t)]
        return min(alike, key=lambda t: t.number)


def _clearly_more(one: _Trial, other: _Trial) -> bool:
    difference = one.scores - other.scores
    return surpasses(int((difference > 0).sum()), int((difference < 0).sum()), LEVEL)
