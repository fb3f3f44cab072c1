"""What the loop of `wdp_edge.select.bracket` acts on: files of structures, timed in turn with the dense one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from wdp_edge import progress
from wdp_edge.cost.table import LatencyTable
from wdp_edge.files import remove
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.timing import against_dense, export_model, pooled, session_of, used_share
from wdp_edge.select.bracket import Goal, Seen, Session
from wdp_edge.stages import Measured, Round
from wdp_edge.structure import Structure

Propose = Callable[[float, Structure | None], Kept | None]


def goal_of(context: Context, table: LatencyTable) -> Goal:
    """Where the recipe wants the file to end."""
    select = context.recipe.prune.select
    # The aim lies in the band, whatever the two settings are.
    aim = select.margin if select.margin >= select.floor else 0.5 * (select.floor + 1.0)
    return Goal(context.budget.resolve(table.dense_ms), select.floor, aim, select.rounds)


class TimedFiles:
    """The loop's device. A context manager: its files are in a folder of their own below `scratch` until it ends well;
    a loop that was broken off finds them there.

    source: the model that is cut. propose: see `wdp_edge.select.bracket.Device`.
    """

    def __init__(
        self, context: Context, table: LatencyTable, source: Any, propose: Propose, dense: Path, scratch: Path
    ) -> None:
        self.context, self.table, self.source, self.dense = context, table, source, dense
        self.propose = propose
        self.folder = scratch / "timed"
        self.whole: Structure = vit.structure_of(source)
        self.measured: dict[Structure, list[Measured]] = {}

    def __enter__(self) -> TimedFiles:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            remove(self.folder)

    def structure(self, kept: Kept) -> Structure:
        return kept.structure(self.whole)

    def predict(self, structure: Structure) -> float:
        return self.table.predict(structure)

    def time(self, kept: Kept) -> Session:
        """Of the cut model with the weights it has: they do not change its time, so a file serves its structure."""
        context, structure = self.context, self.structure(kept)
        path = self.folder / f"{digest(structure)}{context.tools.target.suffix}"
        if not path.exists():
            export_model(context, cut(self.source, kept), path)
        measured = against_dense(context, self.dense, path, self.table.dense_ms)
        self.measured.setdefault(structure, []).append(measured)
        used = used_share(measured, context.budget)
        seen, predicted = used * context.budget.resolve(self.table.dense_ms), self.predict(structure)
        progress.say(f"structure takes {used:.1%} of the budget (predicted {predicted:.3g} ms, seen {seen:.3g} ms)")
        return session_of(measured, context.budget)

    def rounds(self, seen: Sequence[Seen], goal: Goal) -> list[Round]:
        """What is kept of the loop, one for each structure."""
        rounds = []
        for point in seen:
            measured = pooled(self.measured[point.structure], self.context.budget)
            rounds.append(
                Round(
                    predicted_ms=point.predicted_ms,
                    measured_ms=point.used * measured.budget_ms,
                    dense_ms=measured.dense.p50,
                    budget_ms=measured.budget_ms,
                    correction=point.used * goal.budget_ms / point.predicted_ms,
                    used=point.used,
                    spread=point.spread,
                    sessions=len(point.sessions),
                )
            )
        return rounds


def digest(structure: Structure) -> str:
    """A name for the structure's file."""
    return hashlib.sha256(json.dumps(structure.to_json(), sort_keys=True).encode()).hexdigest()[:16]
