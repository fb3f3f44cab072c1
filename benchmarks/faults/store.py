"""Trials on disk, one JSON object a line: a bench that is stopped goes on with those that are missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """kind: kill, disk, together or mutation. where: what was hit. wrong: what is not as it should be; "" when all is.

    how: what the product did, such as exit 2. note: its sentence, or how the fault was made.
    """

    kind: str
    number: int
    where: str
    how: str
    note: str
    wrong: str = ""
    seconds: float = 0.0
    bytes: int = 0


@dataclass
class Store:
    """The trials of one folder."""

    path: Path
    trials: dict[tuple[str, int], Trial] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path) -> Store:
        """The store in `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder / "trials.jsonl")
        for line in store.path.read_text().splitlines() if store.path.exists() else []:
            try:
                trial = Trial(**json.loads(line))
            except ValueError:
                continue  # the last line of a bench that was killed
            store.trials[trial.kind, trial.number] = trial
        return store

    def add(self, trial: Trial) -> None:
        """Keeps a trial, on disk too."""
        self.trials[trial.kind, trial.number] = trial
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")

    def of(self, kind: str, count: int) -> list[Trial]:
        """The first `count` trials of a kind, those that are there."""
        return [t for number in range(count) if (t := self.trials.get((kind, number)))]

    def missing(self, kind: str, count: int) -> list[int]:
        """Numbers below `count` whose trial is not there."""
        return [number for number in range(count) if (kind, number) not in self.trials]


def run_all(store: Store, kind: str, count: int, trial: Callable[[int], Trial], say: Callable[[str], None]) -> None:
    """Makes the trials that are missing, one after another: forks and threads do not go together."""
    for number in store.missing(kind, count):
        done = trial(number)
        store.add(done)
        say(f"{kind} {number + 1} of {count}: {done.where}: {done.wrong or done.how}")
