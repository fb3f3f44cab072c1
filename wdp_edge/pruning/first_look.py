"""A first look before a long run: the dense model on some training images, and what speaks against the two."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from wdp_edge import progress
from wdp_edge.artifacts.proof import spread, spread_pairs
from wdp_edge.data.classes import absent
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import Request, decoded, labels_of, named, view_of
from wdp_edge.data.preprocess import channels_of, normalise, preprocessing_of
from wdp_edge.data.split import balanced_choice, balanced_counts
from wdp_edge.protocols.task import facts_of
from wdp_edge.pruning.alternatives import Sampled, try_others
from wdp_edge.pruning.inputs import HeldBack
from wdp_edge.pruning.plausible import Seen, doubts, exchanged, guessing, scores_of
from wdp_edge.pruning.ways import Way
from wdp_edge.runs.look import BY_HEART, FirstLook, Fit, knows_by_heart

IMAGES, _FEWEST = 256, 64
_MASKS = 64  # images that ways are tried on where outputs are maps, which are large
_SECONDS = 20.0
_BATCH = 32
_ALIKE = 0.05  # of accuracy
_QUOTES = r"[]\" []"


@dataclass(frozen=True)
class Plausible:
    """Stage `plausible`: what has to be said of the dense model and its images. look: None in records of before."""

    warnings: list[str] = field(default_factory=list)
    look: FirstLook | None = None


def of_held_back(held_back: HeldBack) -> Plausible:
    """What speaks against the dense model and its images. Reported at once: whatever follows would be for nothing."""
    data = held_back.data
    images, labels = data.holdout
    places = spread_pairs(labels, IMAGES) if data.task.facts.of_pairs else spread(len(labels), IMAGES)
    indices = [data.holdout_indices[place] for place in places.tolist()]
    seen = Seen.of(data.task.facts.name, held_back.teacher[places], labels[places], data.train)
    module = held_back.model.module
    way = Way(data.preprocessing, preprocessing_of(module), channels_of(data.options.preprocess))
    answer = partial(held_back.answers, module)
    found = judged(Sampled(data.train, indices, images[places], seen, way, answer))
    shown = found.look and replace(found.look, memorised=held_back.memorised)  # of all of them
    found = Plausible(found.warnings + absent(data.train, data.val, data.task.facts), shown)
    if shown:
        progress.say(shown.line)
        if shown.memorised:
            progress.say(f"note: {BY_HEART}")
    for warning in found.warnings:
        progress.say(f"warning: {warning}")
    return found


@torch.no_grad()
def look(dense: nn.Module, folder: ImageFolder, way: Way, task: str) -> tuple[Sampled, list[str]]:
    """The dense model on some training images of all classes, and what to say of those that cannot be read.

    A slow model answers for fewer of them.
    """
    chosen, begin = _mixed(folder, IMAGES), time.monotonic()
    batches, errors, places = [], dict[str, str](), list[int]()
    parts = [chosen[start : start + _BATCH] for start in range(0, len(chosen), _BATCH)]
    answers = decoded(view_of(folder, way.preprocessing), (Request.of(folder, part) for part in parts), 0)
    with progress.task("dense model on some training images", len(chosen)) as advance:
        for part, batch in zip(parts, answers, strict=True):
            errors |= batch.errors
            sound = [place for place, index in enumerate(part) if folder.paths[index] not in batch.errors]
            if sound:
                indices = [part[place] for place in sound]
                images = batch.images[sound]
                outputs = dense(normalise(images, way.preprocessing))
                masks = None if batch.masks is None else batch.masks[sound]
                batches.append((images, outputs, labels_of(folder, indices, masks)))
                places += indices
            advance(len(part))
            if len(places) >= _FEWEST and time.monotonic() - begin > _SECONDS:
                break
    said = [f"{named(folder, errors)}."] if errors else []
    if not batches:
        batches = [(torch.empty(0, 3, 1, 1, dtype=torch.uint8), torch.empty(0, 0), torch.empty(0))]
    pixels, given, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    return Sampled(folder, places, pixels, Seen.of(task, given, labels, folder), way, dense), said


def _mixed(folder: ImageFolder, count: int) -> list[int]:
    """Images of all classes, in twos of a class, mixed: every beginning holds what the whole does."""
    groups = folder.by_class()
    count = max(count, 2 * len(groups)) if len(groups) < count else count
    chosen = balanced_choice(groups, balanced_counts([len(group) for group in groups], count), 0)
    twos = [group[start : start + 2] for group in folder.by_class(chosen) for start in range(0, len(group), 2)]
    order = torch.randperm(len(twos), generator=torch.Generator().manual_seed(0)).tolist()
    return [index for number in order for index in twos[number]]


def judged(sampled: Sampled) -> Plausible:
    """What the dense model's answers tell, and whether another way to prepare its images fits it better."""
    seen = sampled.seen
    score = scores_of(seen.task)
    if not len(seen.outputs) or score is None:
        return Plausible(doubts(seen))
    few = sampled.part(spread(len(seen.labels), _MASKS)) if sampled.folder.masks else sampled
    warnings, tried = doubts(seen), try_others(few, score)
    facts, value, images = facts_of(seen.task), seen.metric, len(seen.outputs)
    found = FirstLook(
        metric=facts.metric,
        value=value,
        images=images,
        guessing=guessing(seen),
        tried=tried.ways,
        untried=tried.why_not,
        fit=tried.fit,
        memorised=knows_by_heart(facts, value, images),
    )
    if tried.fit and tried.seen:
        said = _what_fits(found.metric, tried.fit)
        warnings = [said, *doubts(tried.seen)] if _explains(tried.fit, seen) else [*warnings, said]
    elif warnings and tried.ways:
        warnings[0] += f" Tried, and not clearly better: {', '.join(tried.ways)}."
    return Plausible(warnings, found)


def _explains(fit: Fit, seen: Seen) -> bool:
    """Whether it may be the reason of all doubts: it mends most of what is wrong, and more than classes exchanged for
    each other do. Otherwise it may be a coincidence."""
    orders = exchanged(seen)
    exchange = float(orders[0].float().mean()) if orders else 0.0
    return 2 * (1 - fit.value) <= 1 - fit.as_set and fit.value > exchange + _ALIKE


def _what_fits(metric: str, fit: Fit) -> str:
    pairs = {name: _as_toml(value) for name, value in fit.settings.items()}
    settings = " and ".join(f"{name} = {text}" for name, text in pairs.items())
    options = " ".join(f"--preprocess {name}={re.sub(_QUOTES, '', text)}" for name, text in pairs.items())
    return (
        f"The dense model fits images that are prepared otherwise: {metric} is {fit.value:.1%} with {fit.words}, "
        f"{fit.as_set:.1%} as it is, on {fit.images} training images. Set {settings} under "
        f"preprocess in [data] ({options} of init)."
    )


def _as_toml(value: Any) -> str:
    """As TOML has it; three equal numbers as one."""
    if isinstance(value, list):
        numbers = [f"{number:.6g}" for number in value]
        return numbers[0] if len(set(numbers)) == 1 else f"[{', '.join(numbers)}]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"
