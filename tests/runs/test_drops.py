"""wdp_edge/runs/drops.py: who pays for a loss, and what a limit on every class is held against."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.errors import InputError
from wdp_edge.runs.drops import FEW_IMAGES, Drop, Drops, hardest, listed, short

NOTHING = Drop("never seen", 0)


def part(name: str, points: float, low: float = 0.0, images: int = 100) -> Drop:
    return Drop(name, images, 0.9, 0.9 - points / 100, points, low, points + 5.0)


def drops(*parts: Drop) -> Drops:
    return Drops("class", "accuracy", "exact", part("all", 1.0), list(parts), len(parts))


def test_parts_stand_worst_first_and_those_without_images_apart() -> None:
    found = drops(part("cat", 1.0), NOTHING, part("dog", 4.0, 1.5), part("ant", -2.0, -4.0))
    assert [one.name for one in found.known] == ["dog", "cat", "ant"]
    assert found.worst is not None and found.worst.name == "dog"
    assert found.empty == [NOTHING] and [one.name for one in found.beyond_chance] == ["dog"]
    assert drops(NOTHING).worst is None


def test_few_images_are_held_to_what_chance_does_not_explain() -> None:
    few = part("cat", 30.0, 2.5, images=FEW_IMAGES - 1)
    assert few.few and few.judged == 2.5
    lucky = part("dog", -5.0, -9.0, images=1)
    assert lucky.judged == 0.0, "less than nothing is not lost"
    enough = part("ant", 30.0, 2.5, images=FEW_IMAGES)
    assert not enough.few and enough.judged == 30.0
    single = Drop("photo.jpg", 1, 1.0, 0.5, 50.0)
    assert not single.few and single.judged == 50.0, "nothing is estimated of it"


def test_a_limit_is_missed_first_by_the_part_that_is_judged_worst() -> None:
    few, many = part("few", 30.0, 2.5, images=3), part("many", 3.0)
    assert hardest(drops(few, NOTHING, many)) is many
    assert hardest(drops(few, NOTHING)) is few
    with pytest.raises(InputError, match="max_class_drop"):
        hardest(drops(NOTHING))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9))
def test_no_part_is_judged_worse_than_the_hardest(points: list[float]) -> None:
    found = drops(*(part(str(i), one) for i, one in enumerate(points)))
    assert hardest(found).points == max(points)
    assert [one.points for one in found.known] == sorted(points, reverse=True)


def test_many_names_are_counted() -> None:
    assert listed([part(name, 0.0) for name in "abcde"]) == "a, b, c, d, e"
    assert listed([part(name, 0.0) for name in "abcdefg"]) == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat", "cat"),
        ("a\x1b[31m\nb\u202ec", "a\\x1b[31m\\nb\\u202ec"),
        ("x" * 30 + "/y" * 30, "x" * 13 + "…" + "/y" * 13),
    ],
)
def test_names_cannot_take_over_the_terminal(name: str, shown: Sequence[str]) -> None:
    assert short(name) == shown and len(short(name)) <= 40
