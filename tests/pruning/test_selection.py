"""Which candidates are tried."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from wdp_edge.config.recipe import SelectRecipe
from wdp_edge.models.surgery import Kept
from wdp_edge.pruning.selection import Plan, Selection, Trial, best_of
from wdp_edge.select.rankings import Ranking

FULL, EXITS = 12, [12, 11, 10]
TILTED = ["curves, tilt 0.35", "curves, tilt 0.7"]
DROPPED = "curves, tilt 0.35, sub-layers dropped"
RANKINGS = [Ranking("curves", (), ())]


def scripted(divergences: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch) -> Selection:
    """FAKE: every plan has a structure of its own, and its divergence is written down."""
    plans = list(divergences)

    def keep(self: Selection, plan: Plan, limit_ms: float, like: Any = None) -> Kept | None:
        key = plan.name, plan.depth
        return Kept(((plans.index(key),),), ((0,),)) if key in divergences else None

    def judge(self: Selection, plan: Plan, kept: Kept, stream: None) -> Trial:
        return Trial(plan, kept, 1.0, 1.0, divergences[plan.name, plan.depth])

    monkeypatch.setattr(Selection, "keep", keep)
    monkeypatch.setattr(Selection, "judge", judge)
    monkeypatch.setattr(Selection, "dense_stream", lambda self: nullcontext())
    nothing: Any = None
    return Selection(nothing, nothing, nothing, SelectRecipe(), EXITS, 0.0)


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
    best = TILTED[0]
    names = [("curves", FULL), ("uniform", FULL), *((t, FULL) for t in TILTED), (DROPPED, FULL), (best, 11), (best, 10)]
    script = dict(zip(names, divergences, strict=True))
    script |= {("curves", 11): 0.8, ("curves", 10): 0.0, (TILTED[1], 11): 0.8, (TILTED[1], 10): 0.0}
    tried = [(t.plan.name, t.plan.depth) for t in scripted(script, monkeypatch).try_candidates(RANKINGS, 1.0)]
    assert [names.index(t) for t in tried if t in names] == expected
    assert not {("curves", 10), (TILTED[1], 10)} & set(tried)


def test_a_structure_that_was_tried_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    same = scripted({("curves", FULL): 0.5, ("uniform", FULL): 0.9}, monkeypatch)
    monkeypatch.setattr(Selection, "keep", lambda self, plan, limit_ms: Kept(((0,),), ((0,),)))
    assert [t.plan.name for t in same.try_candidates(RANKINGS, 1.0)] == ["curves"]


@pytest.mark.parametrize(
    ("exit_of_best", "exit_of_other", "tried", "best"),
    [
        pytest.param(0.45, 0.3, True, ("other", 11), id="the exit is near, and another ranking's wins"),
        pytest.param(0.8, 0.3, False, ("curves", FULL), id="the exit is far off"),
    ],
)
def test_rankings_near_the_best_share_an_exit_that_is_near(
    exit_of_best: float, exit_of_other: float, tried: bool, best: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {("curves", FULL): 0.4, ("other", FULL): 0.45, ("far", FULL): 0.9, ("uniform", FULL): 0.95}
    script |= {("curves", 11): exit_of_best, ("other", 11): exit_of_other, ("far", 11): 0.0}
    script |= {("other", 10): 0.9, ("curves", 10): 0.9}
    rankings = [Ranking(name, (), ()) for name in ("curves", "other", "far")]
    trials = scripted(script, monkeypatch).try_candidates(rankings, 1.0)
    found = [(t.plan.name, t.plan.depth) for t in trials]
    assert (("other", 11) in found) is tried and ("far", 11) not in found
    chosen = best_of(trials).plan
    assert (chosen.name, chosen.depth) == best
