"""What each class loses, in words and tables. Differences have the sign of the change: a loss is negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wdp_edge.report.units import NONE, SPACE, share, signed, whole
from wdp_edge.runs.drops import FEW_IMAGES, Drop, Drops, listed, short

MANY_CLASSES = 10
_ROWS = 1000
_PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True)
class DropRow:
    """A line of the table of classes, or of images."""

    name: str
    images: str
    dense: str
    shipped: str
    points: str
    interval: str


def summary(drops: Drops) -> list[str]:
    """The difference over all, the worst part, and what cannot be judged."""
    overall, worst = drops.overall, drops.worst
    lines = [f"Difference over all: {difference(overall)}{_beside(overall)}."]
    if worst is None:
        return [*lines, f"No {drops.unit} has images of its own."]
    lines.append(
        f"Worst of {whole(drops.count)} {_plural(drops)}: {short(worst.name)}, {difference(worst)}{_beside(worst)}."
    )
    return lines + cautions(drops)


def cautions(drops: Drops) -> list[str]:
    """How far single classes can be trusted."""
    lines = []
    if drops.unit == "class":
        lines.append(_beyond_chance(drops))
    if few := drops.few:
        lines.append(f"Fewer than {FEW_IMAGES} images, which tell little: {listed(few)}.")
    if empty := drops.empty:
        lines.append(f"No validation images: {listed(empty)}.")
    return lines


def _beyond_chance(drops: Drops) -> str:
    """The worst of many is bad luck in part, and each interval misses in one case of twenty."""
    lose = len(drops.beyond_chance)
    if drops.by_answers:
        words = f"{whole(lose)} of {whole(drops.count)} classes" if lose else "no class"
        verb = "lose" if lose > 1 else "loses"
        return f"Classes are the dense model's own answers; {words} {verb} more than the average, beyond chance."
    if not lose:
        return "No class loses more than chance explains: every interval reaches 0."
    verb, whose = ("loses", "its interval lies") if lose == 1 else ("lose", "their intervals lie")
    return f"{whole(lose)} of {whole(drops.count)} classes {verb} more than chance explains: {whose} below 0."


def difference(drop: Drop) -> str:
    return NONE if drop.points is None else f"{signed(-drop.points, '.2f')}{SPACE}points"


def interval(drop: Drop) -> str:
    if drop.low is None or drop.high is None:
        return NONE
    return f"{signed(-drop.high, '.1f')} to {signed(-drop.low, '.1f')}"


def _beside(drop: Drop) -> str:
    if drop.low is None:
        return ""
    return f" (95{SPACE}% interval {interval(drop)}, {whole(drop.images)} image{'' if drop.images == 1 else 's'})"


def _plural(drops: Drops) -> str:
    return "images" if drops.unit == "image" else "classes" if drops.count != 1 else "class"


def table(parts: Sequence[Drop]) -> list[DropRow]:
    """Lines for these parts, as many as a page can bear."""
    return [
        DropRow(
            name=short(p.name),
            images=whole(p.images),
            dense=share(p.dense, 1),
            shipped=share(p.shipped, 1),
            points=NONE if p.points is None else signed(-p.points, ".2f"),
            interval=interval(p),
        )
        for p in parts[:_ROWS]
    ]


def main_rows(drops: Drops) -> list[DropRow]:
    """All classes, worst first, where they are few; the worst ten where the others are in the picture."""
    parts = drops.known
    return table(parts[:MANY_CLASSES] if many(drops) else [*parts, *drops.empty])


def many(drops: Drops) -> bool:
    """Whether there are too many parts for a table alone."""
    return drops.unit == "image" or len(drops.parts) > MANY_CLASSES


def percentiles(drops: Drops) -> list[tuple[str, str]]:
    """How much of the images lose at most how many points."""
    if len(drops.spread) != 101:
        return []
    names = {50: "half of the images", 100: "all images"}
    return [(names.get(p, f"{p}{SPACE}% of the images"), f"{drops.spread[p]:.2f}{SPACE}points") for p in _PERCENTILES]


def method(drops: Drops) -> str:
    """How the intervals were made, in a sentence."""
    if drops.by_answers:
        return (
            "Classes are the dense model's own answers, right or wrong, and each image with another answer is a loss. "
            "Intervals are exact (Clopper and Pearson)."
        )
    if drops.method == "exact":
        return "Intervals are exact and paired: they rest on the images that only one of the two models gets right."
    return (
        "Intervals are a paired bootstrap over images, widened by what so few images may not have shown; "
        "they hold about as often as they say."
    )
