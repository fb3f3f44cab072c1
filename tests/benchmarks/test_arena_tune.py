"""Rates and weights of block outputs are chosen by held-back images. The setting is a STAND-IN: it trains nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from arena.cells import Origin
from arena.setting import Proposal
from arena.tune import FEATURES, IMAGES, RATES, choices, chosen, tune

from wdp_edge.config.recipe import Recipe, RecoverRecipe

HERE, THERE = Origin("a", "b"), Origin("c", "b")


def setting(best: tuple[float, float]) -> Any:
    seen: list[int] = []

    def recovered(proposal: Proposal, images: int, name: str, options: RecoverRecipe) -> RecoverRecipe:
        seen.append(images)
        return options

    def metric(options: RecoverRecipe) -> float:
        return 0.9 if (options.lr, options.features) == best else 0.8

    held_back = SimpleNamespace(outputs=lambda model: model, metric=metric)
    return SimpleNamespace(recipe=Recipe(), recovered=recovered, held_back=held_back, seen=seen)


def test_the_best_pair_is_kept_with_all_that_were_tried(tmp_path: Path) -> None:
    own = setting((RATES[2], FEATURES[0]))
    choice = tune(own, tmp_path, "TP Taylor, global", HERE, Proposal(None))
    assert (choice.lr, choice.features) == (RATES[2], FEATURES[0])
    assert own.seen == [IMAGES] * len(RATES) * len(FEATURES) and len(choice.tried) == 6
    assert chosen(tmp_path, "TP Taylor, global", HERE) == choice and list(choices(tmp_path)) == [choice]
    options = choice.options(RecoverRecipe())
    assert (options.lr, options.features, options.batch_size) == (choice.lr, choice.features, 128)


def test_a_choice_of_other_code_is_none(tmp_path: Path) -> None:
    tune(setting((RATES[0], FEATURES[1])), tmp_path, "ours", HERE, Proposal(None))
    assert chosen(tmp_path, "ours", THERE) is None and chosen(tmp_path, "control", HERE) is None


def test_of_equal_ones_the_first_is_taken(tmp_path: Path) -> None:
    choice = tune(setting((0.0, 0.0)), tmp_path, "ours", HERE, Proposal(None))
    assert (choice.lr, choice.features) == (RATES[0], FEATURES[0])
