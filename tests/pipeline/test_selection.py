"""Which candidates are tried."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wdp_edge.models.surgery import Kept
from wdp_edge.pipeline import selection
from wdp_edge.pipeline.selection import Plan, Selection, Trial
from wdp_edge.recipe import SelectRecipe
from wdp_edge.select.candidates import Ranking

FULL, EXITS = 12, [12, 11, 10]
TILTED = ["curves, tilt 0.35", "curves, tilt 0.7"]
DROPPED = "curves, tilt 0.35, sub-layers dropped"


class Scripted(Selection):
    """Fake: every plan has a structure of its own, and its divergence is written down."""

    def __init__(self, divergences: dict[tuple[str, int], float]) -> None:
        context: Any = SimpleNamespace(recipe=SimpleNamespace(prune=SimpleNamespace(select=SelectRecipe())))
        super().__init__(context, None, [Ranking("curves", (), ())])  # type: ignore[arg-type]
        self.divergences = divergences

    def keep(self, plan: Plan, table: Any, limit_ms: float, like: Any = None) -> Kept | None:
        return (
            Kept(((hash((plan.name, plan.depth)),),), ((0,),)) if (plan.name, plan.depth) in self.divergences else None
        )

    def judge(self, plan: Plan, kept: Kept, table: Any) -> Trial:
        return Trial(plan, kept, 1.0, 1.0, self.divergences[plan.name, plan.depth])


@pytest.mark.parametrize(
    ("divergences", "expected"),
    [
        pytest.param([0.5, 0.9, 0.6, 0.1, 0.7, 0.6, 0.1], [0, 1, 2], id="the first tilt is worse, and so is the exit"),
        pytest.param([0.5, 0.9, 0.4, 0.3, 0.7, 0.6, 0.1], [0, 1, 2, 3], id="both tilts help"),
        pytest.param([0.5, 0.9, 0.4, 0.45, 0.7, 0.3, 0.2], [0, 1, 2, 3, 4, 5, 6], id="both exits help"),
    ],
)
def test_tilts_and_exits_are_tried_until_one_is_worse(
    divergences: list[float], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "depths_of", lambda context: EXITS)
    best = TILTED[0]
    names = [("curves", FULL), ("uniform", FULL), *((t, FULL) for t in TILTED), (DROPPED, FULL), (best, 11), (best, 10)]
    script = dict(zip(names, divergences, strict=True))
    script |= {("curves", 11): 0.8, ("curves", 10): 0.0, (TILTED[1], 11): 0.8, (TILTED[1], 10): 0.0}
    tried = [(t.plan.name, t.plan.depth) for t in Scripted(script).try_candidates(None, 1.0)]  # type: ignore[arg-type]
    assert [names.index(t) for t in tried if t in names] == expected
    assert not {("curves", 10), (TILTED[1], 10)} & set(tried)


def test_a_structure_that_was_tried_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "depths_of", lambda context: EXITS)
    same = Scripted({("curves", FULL): 0.5, ("uniform", FULL): 0.9})
    monkeypatch.setattr(same, "keep", lambda plan, table, limit: Kept(((0,),), ((0,),)))
    assert [t.plan.name for t in same.try_candidates(None, 1.0)] == ["curves"]  # type: ignore[arg-type]
