"""Which cells the arena makes."""

from __future__ import annotations

import pytest
from arena.methods import CONTROL, CUT_STREAM, OURS
from arena.play import ABLATIONS, Plan, of_training

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
