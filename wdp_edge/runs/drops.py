"""Who pays for a loss: what each class, query or image loses, with an interval for what more images would show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from wdp_edge.errors import InputError, printable

FEW_IMAGES = 10
_NAMED = 5


@dataclass(frozen=True)
class Drop:
    """What one part of the validation images loses.

    images: that count for it. dense, shipped: the part's metric, in [0, 1]. points: hundredths lost, negative where the
    shipped file is better. low, high: the 95 % interval of points. Without images all of these are None; a single image
    has no interval.
    """

    name: str
    images: int
    dense: float | None = None
    shipped: float | None = None
    points: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def few(self) -> bool:
        """Whether there are images, but so few that the figure is mostly chance. No interval: nothing is estimated."""
        return self.low is not None and self.images < FEW_IMAGES

    @property
    def judged(self) -> float | None:
        """What a limit is held against: points, or with few images those that are lost beyond chance."""
        return max(0.0, self.low or 0.0) if self.few else self.points


@dataclass(frozen=True)
class Drops:
    """All of them.

    unit: what the parts are ("class" or "image"). metric: of each part. method: of the intervals ("exact", "binomial",
    where the dense model loses nothing by definition, or "bootstrap"). overall: of all images, in the task's own
    metric. parts: every class, in the order of the model's outputs, or the worst images, worst first. count: parts that
    have images, of which the worst is the maximum. spread: where parts are images, points lost at the percentiles 0 to
    100 of all images.
    """

    unit: str
    metric: str
    method: str
    overall: Drop
    parts: list[Drop]
    count: int
    spread: list[float] = field(default_factory=list)

    @property
    def known(self) -> list[Drop]:
        """Parts with images, worst first."""
        found = [part for part in self.parts if part.points is not None]
        return sorted(found, key=lambda part: -(part.points or 0.0))

    @property
    def worst(self) -> Drop | None:
        """None where no part has images."""
        return next(iter(self.known), None)

    @property
    def few(self) -> list[Drop]:
        return [part for part in self.parts if part.few]

    @property
    def empty(self) -> list[Drop]:
        return [part for part in self.parts if part.points is None]

    @property
    def by_answers(self) -> bool:
        """Whether classes are the dense model's own answers: there is no gain then, and any change is a loss."""
        return self.method == "binomial"

    @property
    def expected(self) -> float:
        """The loss that needs no explanation: none, or of the dense model's own answers what all of them lose."""
        return (self.overall.points or 0.0) if self.by_answers else 0.0

    @property
    def beyond_chance(self) -> list[Drop]:
        """Parts whose interval holds a larger loss alone, worst first."""
        return [part for part in self.known if part.low is not None and part.low > self.expected]


def hardest(drops: Drops) -> Drop:
    """The part that a limit on every part is missed by first.

    Raises InputError where no part has images.
    """
    held = [part for part in drops.parts if part.judged is not None]
    if not held:
        raise InputError(
            f"No {drops.unit} has validation images, so max_class_drop cannot be judged.",
            "Add labelled images to val in [data], or remove max_class_drop.",
        )
    return max(held, key=lambda part: (part.judged or 0.0, part.points or 0.0))


def listed(parts: Sequence[Drop]) -> str:
    """The first few names, and how many more."""
    names = ", ".join(short(part.name) for part in parts[:_NAMED])
    return f"{names} and {len(parts) - _NAMED} more" if len(parts) > _NAMED else names


def short(name: str, longest: int = 40) -> str:
    """A name from data as it may be shown: without control characters, and not too long, which takes its middle."""
    clean, ahead = printable(name), longest // 3
    return clean if len(clean) <= longest else f"{clean[:ahead]}…{clean[ahead + 1 - longest :]}"
