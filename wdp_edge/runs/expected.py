"""How long a run will take: what its stages have to do, at the pace of those that are done, and of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import cache_root, write_json
from wdp_edge.io.plain import read_as
from wdp_edge.progress import Position, say

PACE_VERSION: Final = 1
# How far one earlier run may move what is known of a stage, and how far a stage may be from what its work says.
_NEW, _FURTHEST = 0.5, 20.0
# Of a stage that takes longer than was expected, as much of it is thought to be left.
_OVERTIME = 0.1
_PURE = 0.8
# Seconds: a stage that took less found its result in the cache, or is of no account.
_TELLING = 2.0


@dataclass(frozen=True)
class Work:
    """What a stage has to do.

    images: passes of the dense model over one image, or what costs as much; exports: of the dense model; seconds: of
    timings, whose length is set.
    """

    images: float = 0.0
    exports: float = 0.0
    seconds: float = 0.0

    def at(self, pace: Pace) -> float:
        """Seconds."""
        return self.images * pace.image + self.exports * pace.export + self.seconds


@dataclass(frozen=True)
class Pace:
    """Seconds for one image, and for one export."""

    image: float
    export: float


@dataclass(frozen=True)
class Habits:
    """`pace.json` in the cache: by stage, how many times as long as its work says it took in earlier runs here."""

    stages: dict[str, float]
    version: Literal[1] = PACE_VERSION

    def __post_init__(self) -> None:
        if not all(0 < ratio <= _FURTHEST for ratio in self.stages.values()):
            raise InputError("Stages take longer than nothing.", "Remove the file.")


@dataclass
class Expected:
    """The stages of a run in order, with their work: a `progress.Course`.

    start: the pace before anything is known of this machine. taken: seconds of the stages that are done.
    """

    works: Mapping[str, Work]
    start: Pace
    habits: Habits = field(default_factory=lambda: Habits({}))
    taken: dict[str, float] = field(default_factory=dict)

    def pace(self) -> Pace:
        """By the stages that are done and do one kind of work alone, or nearly so."""
        found = {}
        for kind, before in (("image", self.start.image), ("export", self.start.export)):
            units = seconds = 0.0
            for stage, taken in self.taken.items():
                work = self.works.get(stage, Work())
                amount = work.images if kind == "image" else work.exports
                if taken and amount * before >= _PURE * work.at(self.start) > 0:
                    units, seconds = units + amount, seconds + taken
            found[kind] = seconds / units if units else before
        return Pace(found["image"], found["export"])

    def seconds(self, stage: str) -> float:
        """What the stage takes: as it did where it is done."""
        if stage in self.taken:
            return self.taken[stage]
        return self.works.get(stage, Work()).at(self.pace()) * self.habits.stages.get(stage, 1.0)

    def done(self, stage: str, seconds: float) -> None:
        self.taken[stage] = seconds

    def at(self, stage: str, inside: float = 0.0) -> Position:
        """inside: seconds that the stage has run."""
        names = list(self.works)
        number = names.index(stage) if stage in names else len(self.taken)
        whole = self.seconds(stage)
        done = sum(self.taken.values()) + inside
        own = max(whole - inside, _OVERTIME * inside)
        left = own + sum(self.seconds(name) for name in names[number + 1 :] if name not in self.taken)
        share = done / (done + left) if done + left else 1.0
        return Position(number + 1, max(len(names), number + 1), share, left, own)

    def learned(self) -> Habits:
        """What later runs should expect of the stages that this one did."""
        pace, stages = self.pace(), dict(self.habits.stages)
        for stage, taken in self.taken.items():
            if (by_work := self.works.get(stage, Work()).at(pace)) > 0 and taken >= _TELLING:
                ratio = taken / by_work
                mixed = stages.get(stage, ratio) ** (1 - _NEW) * ratio**_NEW
                stages[stage] = min(_FURTHEST, max(1 / _FURTHEST, mixed))
        return Habits(stages)


def habits_file() -> Path:
    return cache_root() / "pace.json"


def read_habits() -> Habits:
    """Of earlier runs here; none where the file is missing or damaged: nothing but a guess depends on it."""
    try:
        return read_as(habits_file(), Habits)
    except InputError:
        return Habits({})


def write_habits(habits: Habits) -> None:
    """Says so where the cache cannot be written: a run is not lost for that."""
    try:
        write_json(habits_file(), habits)
    except SetupError as error:
        say(f"Times of this run are not kept: {error.message}")
