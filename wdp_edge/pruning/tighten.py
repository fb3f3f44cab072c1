"""A recovered model's file held against the budget, and a smaller model in its place while it misses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.config.recipe import CompensateRecipe
from wdp_edge.config.values import LatencyBudget
from wdp_edge.models import vit
from wdp_edge.models.files import load, read_spec, save
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.target import Artifact
from wdp_edge.pruning.bench import Bench, Found
from wdp_edge.pruning.choose import AXES, Information, importance_of
from wdp_edge.pruning.finish import Saved
from wdp_edge.pruning.inputs import DenseModel
from wdp_edge.pruning.selection import allowed
from wdp_edge.pruning.timing import pooled, repeated, value_of
from wdp_edge.runs.stages import Measured
from wdp_edge.select.bracket import Goal, Seen, best, contradict, doubtful
from wdp_edge.select.candidates import solve
from wdp_edge.select.rankings import saliency_ranking
from wdp_edge.shrink.compensation import compensate

MOST_FILES = 3
# The structure was timed before: a value that would leave the band from its middle is a surprise.
_SURPRISE = 0.025
# A shared machine takes up to 5 % longer or shorter minutes later, whatever the spread within a session says.
_DRIFT = 0.05
_FRESH = 3


@dataclass(frozen=True)
class Attempt:
    """A recovered model in `folder`, its file, and what that takes of the budget by `measured`."""

    folder: Path
    artifact: Artifact
    measured: Measured
    seen: Seen

    @classmethod
    def of(cls, folder: Path, artifact: Artifact, measured: Measured, bench: Bench) -> Attempt:
        structure = read_spec(folder)[1]
        seen = Seen(
            (bench.session(measured, structure),), Kept.first(structure), structure, bench.table.predict(structure)
        )
        return cls(folder, artifact, measured, seen)


@dataclass(frozen=True)
class Earlier:
    """What the structure took of the budget while choosing, and those timings: training changes no latency."""

    used: float
    measured: list[Measured]


def measured_file(bench: Bench, path: Path, earlier: Earlier) -> Measured:
    """The file's time against the dense one's: twice as many rounds as while choosing, and again where in doubt.

    The timings of the same structure while choosing count too, and where these are apart from them there are more of
    these.
    """
    if not bench.timed:
        return bench.time(path, times=2)
    budget = bench.budget

    def in_doubt(fresh: Sequence[Measured]) -> bool:
        together = value_of(budget, counted(budget, earlier, fresh))
        before = value_of(budget, earlier.measured) if earlier.measured else None
        own = value_of(budget, fresh)
        apart = before is not None and (contradict(before, own) or own.used > 1.0 >= before.used)
        return (apart and len(fresh) < _FRESH) or doubtful(together, earlier.used, bench.goal, _SURPRISE)

    fresh = repeated(lambda: bench.time(path, times=2), in_doubt)
    return pooled(counted(budget, earlier, fresh), budget)


def counted(budget: LatencyBudget, earlier: Earlier, fresh: Sequence[Measured]) -> Sequence[Measured]:
    """All timings of the structure; those of its file alone where they miss the budget, or where the device is another
    one by now, as after a pause.

    A device with other work drifts by a few per cent within minutes. Both were drawn from that then, and each alone
    would be further from what the file takes than both together. But the earlier ones were chosen for being inside the
    budget: they may not outvote a file that misses it.
    """
    own = value_of(budget, fresh)
    if not earlier.measured or own.used > 1.0 or contradict(value_of(budget, earlier.measured), own, _DRIFT):
        return fresh
    return [*earlier.measured, *fresh]


def good_enough(attempts: Sequence[Attempt], goal: Goal) -> bool:
    """Whether nothing is cut again: the last file is inside the band, or every one is inside the budget."""
    return goal.low <= attempts[-1].seen.used <= 1.0 or all(a.seen.used <= 1.0 for a in attempts)


def best_attempt(attempts: Sequence[Attempt], goal: Goal) -> Attempt:
    """Never a file over the budget where one inside is known."""
    chosen = best([a.seen for a in attempts], goal)
    return next(a for a in attempts if a.seen is chosen)


@dataclass(frozen=True)
class Smaller(Saved):
    """Stage `smaller-N`. expected: share of the budget that the untrained file took; measured: its timings."""

    expected: float = 1.0
    measured: list[Measured] = field(default_factory=list)


def smaller_model(
    bench: Bench, dense: DenseModel, options: CompensateRecipe, attempts: Sequence[Attempt], run: Path, name: str
) -> Smaller:
    """A slightly smaller model from a recovered one whose file misses the budget, to be recovered again for a short
    time.

    Of the files that miss it the smallest is cut; its model takes the dense one's place for saliency, knapsack and
    compensation. Structures are timed before one is trained, so that one recovery is enough. `folder` of the result is
    where the new model is, "" when no structure is small enough. name: of the stage.
    """
    start = time.monotonic()
    missed = min((a for a in attempts if a.seen.used > 1.0), key=lambda a: a.seen.used)
    model: Any = load(missed.folder)
    progress.say(f"the file takes {missed.seen.used:.1%} of the budget: cutting a little more")
    found = smaller_structure(bench, model, attempts)
    if found is None:
        return Smaller("", time.monotonic() - start)
    small = cut(model, found.chosen.kept)
    compensate(model, small, bench.data.refit_images(dense.module, options), bench.data.prepare, bench.scratch)
    save(small, dense.spec, run / "stages" / name)
    return Smaller(f"stages/{name}", time.monotonic() - start, found.chosen.used, found.measured)


def smaller_structure(bench: Bench, model: Any, attempts: Sequence[Attempt]) -> Found | None:
    """The structure inside `model` that is nearest to the budget by the device; None where none was found."""
    structure = vit.structure_of(model)
    ranking = saliency_ranking(importance_of(Information(model, bench.data), bench.scratch, AXES))
    widths = allowed(model, bench.tools.target.mlp_width_multiple, drop=False)

    def propose(limit_ms: float, like: Structure | None) -> Kept | None:
        return solve(ranking, structure, structure.depth, bench.table, limit_ms, widths, like)

    return bench.find(model, propose, known=[a.seen for a in attempts])
