"""A learning rate and a weight of block outputs for each method, chosen once by held-back training images.

At half of the dense latency, on 5,000 images and with seed 0, whatever the comparison's own shares, images and seeds
are: methods that start further from the dense model may want larger steps, and get them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arena.cells import Origin, slug
from arena.setting import Proposal, Setting
from wdp_edge import progress
from wdp_edge.config.recipe import RecoverRecipe
from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as

SHARE, IMAGES, SEED = 0.5, 5000, 0
RATES, FEATURES = (1e-4, 3e-4, 1e-3), (5.0, 100.0)


@dataclass(frozen=True)
class Choice:
    """Of a method. tried: (rate, weight of block outputs, metric on held-back images) of all, in the order tried."""

    method: str
    origin: Origin
    lr: float
    features: float
    tried: list[tuple[float, float, float]]

    def options(self, usual: RecoverRecipe) -> RecoverRecipe:
        return replace(usual, lr=self.lr, features=self.features)


def choices(folder: Path) -> Iterator[Choice]:
    for path in sorted((folder / "choices").glob("*.json")):
        yield read_as(path, Choice)


def chosen(folder: Path, method: str, origin: Origin) -> Choice | None:
    """None where nothing was chosen with this code and recipe."""
    path = _path(folder, method)
    found = read_as(path, Choice) if path.exists() else None
    return found if found is not None and found.origin == origin else None


def tune(setting: Setting, folder: Path, method: str, origin: Origin, proposal: Proposal) -> Choice:
    """Recovers the proposal with every pair and keeps the best one's; the first of equal ones."""
    tried: list[tuple[float, float, float]] = []
    for lr, features in itertools.product(RATES, FEATURES):
        options = replace(setting.recipe.prune.recover, lr=lr, features=features)
        model: Any = setting.recovered(proposal, IMAGES, f"tune-{slug(method)}", options)
        value = setting.held_back.metric(setting.held_back.outputs(model))
        progress.say(f"{method}: rate {lr:g}, block outputs {features:g}: {value:.2%} of held-back images")
        tried.append((lr, features, value))
    best = max(tried, key=lambda one: one[2])
    choice = Choice(method, origin, best[0], best[1], tried)
    write_json(_path(folder, method), choice)
    return choice


def _path(folder: Path, method: str) -> Path:
    return folder / "choices" / f"{slug(method)}.json"
