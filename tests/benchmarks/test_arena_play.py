"""Which cells the arena makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from arena.cells import Store
from arena.fit import OutOfReach
from arena.methods import CONTROL, CUT_STREAM, OURS
from arena.play import ABLATIONS, Plan, of_training, play
from arena.setting import refit_within

from wdp_edge.config.recipe import Recipe

PEER = "TP Taylor, isomorphic, heads and hidden"
ALL = ((False, False), (True, False), (False, True), (True, True))


@pytest.mark.parametrize(
    ("method", "variants", "expected"),
    [
        (PEER, ALL, [(0, False), (100, False), (0, True), (100, True)]),
        (PEER, ALL[:2], [(0, False), (100, False)]),
        (CUT_STREAM[0], ALL, [(0, False), (100, False)]),
        (OURS, ALL, [(0, True), (100, True)]),
        (OURS, ALL[:2], [(0, True), (100, True)]),
        (OURS, ALL[:1], [(0, True)]),
        (CONTROL, ALL, [(100, False)]),
        (CONTROL, ALL[:1], []),
    ],
)
def test_cells_of_a_method(
    method: str, variants: tuple[tuple[bool, bool], ...], expected: list[tuple[int, bool]]
) -> None:
    plan = Plan((method,), (0.5,), (0,), 100, variants)
    assert [(key.images, key.compensated) for key in plan.keys(method, 0.5, 0)] == expected


def test_without_training_nothing_of_training_is_switched_off() -> None:
    left = [name for name, changes in ABLATIONS.items() if not of_training(changes)]
    assert left == ["ours, heads of full width", "ours, no tilt", "ours, no exits"]


def test_a_method_that_cannot_reach_a_share_leaves_its_cells_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def propose(*arguments: object) -> NoReturn:
        raise OutOfReach("no trial came under 33% of the dense latency")

    monkeypatch.setattr("arena.play.propose", propose)
    store = Store(tmp_path)
    setting: Any = None  # nothing of it is looked at
    play(setting, store, Plan((PEER,), (0.33,), (0,), 100, ALL), PEER, 0.33, 0)
    assert store.all() == []


@pytest.mark.parametrize(("images", "refit"), [(20_000, 8192), (10_000, 5_000), (1, 1)])
def test_the_refit_leaves_half_of_the_images(images: int, refit: int) -> None:
    assert refit_within(Recipe(), images).prune.compensate.images == refit
