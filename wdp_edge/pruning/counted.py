"""A bench for budgets that are counted: the structure follows from the counts, and its file is timed for the record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wdp_edge.cost.counted import Counter
from wdp_edge.models import vit
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept
from wdp_edge.pruning.bench import Bench, Found, Propose
from wdp_edge.runs.stages import Measured
from wdp_edge.select.bracket import Seen, Session

# Biases and blocks that are not alike make the table's sums a little wrong: so often a smaller structure is sought.
_TRIES = 8


@dataclass(frozen=True)
class CountedBench(Bench):
    """budget: the dense file's time, which nothing is decided by. goal and table: in per cent of the count."""

    counter: Counter

    @property
    def timed(self) -> bool:
        return False

    def aim(self, margin: float) -> float:
        """The budget itself: a count is not off by anything."""
        return self.goal.budget_ms

    def session(self, measured: Measured, structure: Structure) -> Session:
        return Session(self.counter.used(structure), 0.0)

    def find(
        self, source: Any, propose: Propose, first: Kept | None = None, known: Sequence[Seen] = ()
    ) -> Found | None:
        """A structure that is exactly inside the budget; None where there is none.

        Where the first one leaves more than the goal's band, as equal shares do, its attentions stay and hidden units
        fill what is left.
        """
        whole = vit.structure_of(source)
        found = self._inside(whole, propose, first, None)
        if found is not None and found.used < self.goal.low:
            wider = self._inside(whole, propose, None, found.structure)
            found = max(found, wider or found, key=lambda seen: seen.used)
        return None if found is None else Found(found, [], [])

    def _inside(self, whole: Structure, propose: Propose, first: Kept | None, like: Structure | None) -> Seen | None:
        limit, kept = self.goal.budget_ms, first
        for _ in range(_TRIES):
            kept = kept or propose(limit, like)
            if kept is None:
                return None
            structure = kept.structure(whole)
            used = self.counter.used(structure)
            if used <= 1.0:
                return Seen((Session(used, 0.0),), kept, structure, self.table.predict(structure))
            limit, kept = limit * (1.0 - 1e-6) / used, None
        return None
