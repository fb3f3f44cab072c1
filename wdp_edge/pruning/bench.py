"""The loop on the device: structures become files, which are timed beside the dense one, until one meets the budget.

`wdp_edge.select.bracket` says which structure is next. A file's latency does not depend on its weights' values, so
looking for a structure costs exports, not a training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.config.recipe import SelectRecipe
from wdp_edge.config.values import LatencyBudget
from wdp_edge.cost.table import LatencyTable
from wdp_edge.io.files import remove
from wdp_edge.models import vit
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.pruning.data import Data
from wdp_edge.pruning.timing import pooled, session_of, used_share
from wdp_edge.pruning.toolkit import Toolkit
from wdp_edge.runs.stages import Measured, Round
from wdp_edge.select.bracket import Goal, Seen, Session, best, bracket

Propose = Callable[[float, Structure | None], Kept | None]
"""See `wdp_edge.select.bracket.StructureTimer.propose`."""


@dataclass(frozen=True)
class Bench:
    """Where files of a run are timed. dense: the file that they are timed beside. scratch: a folder for files that
    only the loop needs."""

    tools: Toolkit
    data: Data
    budget: LatencyBudget
    goal: Goal
    table: LatencyTable
    dense: Path
    scratch: Path

    @property
    def timed(self) -> bool:
        """Whether the budget is one of time."""
        return True

    def aim(self, margin: float) -> float:
        """What structures are chosen for by the table alone. margin: of the recipe, for what timing may be off by."""
        return self.goal.budget_ms * margin

    def session(self, measured: Measured, structure: Structure) -> Session:
        """What a file with this structure takes of the budget."""
        return session_of(measured, self.budget)

    def time(self, path: Path, times: int = 1) -> Measured:
        """times: how many times as many rounds as usual."""
        return self.tools.time_beside(self.dense, path, self.budget, self.table.dense_ms, times)

    def find(
        self, source: Any, propose: Propose, first: Kept | None = None, known: Sequence[Seen] = ()
    ) -> Found | None:
        """Times structures between what fits and what does not; the best of them, or None where a known one is.

        source: the model that is cut. first: where to begin; known: structures that were timed before.
        A loop that was broken off finds the files that it had exported.
        """
        files = _Files(self, source, propose)
        files.folder.mkdir(parents=True, exist_ok=True)
        seen = bracket(files, first, self.goal, known)
        remove(files.folder)
        chosen = best([*known, *seen], self.goal)
        if chosen in known:
            return None
        return Found(chosen, files.measured[chosen.structure], [files.round(point) for point in seen])


@dataclass(frozen=True)
class Found:
    """What the loop ends with: a structure, all timings of it, and a record of each structure that was timed."""

    chosen: Seen
    measured: list[Measured]
    rounds: list[Round]


def goal_of(select: SelectRecipe, budget_ms: float) -> Goal:
    """Where the recipe wants the file to end."""
    # The aim lies in the band, whatever the two settings are.
    aim = select.margin if select.margin >= select.floor else 0.5 * (select.floor + 1.0)
    return Goal(budget_ms, select.floor, aim, select.rounds)


class _Files:
    """Structures cut from `source` as files on a bench, for `bracket`."""

    def __init__(self, bench: Bench, source: Any, propose: Propose) -> None:
        self.bench, self.source, self.propose = bench, source, propose
        self.folder = bench.scratch / "timed"
        self.whole: Structure = vit.structure_of(source)
        self.measured: dict[Structure, list[Measured]] = {}

    def structure(self, kept: Kept) -> Structure:
        return kept.structure(self.whole)

    def predict(self, structure: Structure) -> float:
        return self.bench.table.predict(structure)

    def time(self, kept: Kept) -> Session:
        """Of the cut model with the weights it has: they do not change its time, so a file serves its structure."""
        bench, structure = self.bench, self.structure(kept)
        path = self.folder / f"{digest(structure)}{bench.tools.target.suffix}"
        if not path.exists():
            bench.tools.export(cut(self.source, kept), bench.data, path)
        measured = bench.time(path)
        self.measured.setdefault(structure, []).append(measured)
        used, predicted = used_share(measured, bench.budget), self.predict(structure)
        seen = used * bench.goal.budget_ms
        progress.say(f"structure takes {used:.1%} of the budget (predicted {predicted:.3g} ms, seen {seen:.3g} ms)")
        return session_of(measured, bench.budget)

    def round(self, point: Seen) -> Round:
        """What is kept of a structure that was timed."""
        measured = pooled(self.measured[point.structure], self.bench.budget)
        return Round(
            predicted_ms=point.predicted_ms,
            measured_ms=point.used * measured.budget_ms,
            dense_ms=measured.dense.p50,
            budget_ms=measured.budget_ms,
            correction=point.used * self.bench.goal.budget_ms / point.predicted_ms,
            used=point.used,
            spread=point.spread,
            sessions=len(point.sessions),
        )


def digest(structure: Structure) -> str:
    """A name for the structure's file."""
    return hashlib.sha256(json.dumps(structure.to_json(), sort_keys=True).encode()).hexdigest()[:16]
