"""The recovered model as a file inside the budget: exported, timed, and cut a little more while it misses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.budget import LatencyBudget
from wdp_edge.cost.table import LatencyTable
from wdp_edge.models import vit
from wdp_edge.models.files import load, read_spec, save
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.parallel import world
from wdp_edge.pipeline.closing import TimedFiles, goal_of
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.finish import Saved, recover_stage
from wdp_edge.pipeline.selection import allowed
from wdp_edge.pipeline.sidecar import write_sidecar
from wdp_edge.pipeline.timing import against_dense, export_model, pooled, session_of
from wdp_edge.run import Run
from wdp_edge.select.bracket import Seen, Value, best, bracket, contradict, doubtful
from wdp_edge.select.candidates import saliency_ranking, solve
from wdp_edge.shrink.compensation import compensate
from wdp_edge.shrink.saliency import saliency
from wdp_edge.stages import Measured
from wdp_edge.structure import Structure
from wdp_edge.target import Artifact

TIGHTEN_SHARE = 0.15
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


@dataclass(frozen=True)
class Earlier:
    """What the structure took of the budget while choosing, and those timings: training changes no latency."""

    used: float
    measured: list[Measured]


def export_stage(context: Context, run: Run, folder: Path, number: int) -> Artifact:
    """The model in `folder` as the run's artifact."""
    suffix = context.tools.target.suffix

    def compute() -> Artifact:
        path = run.path / "artifacts" / (f"model{suffix}" if number == 0 else f"model-{number}{suffix}")
        artifact = export_model(context, load(folder), path)
        write_sidecar(context, artifact, read_spec(folder)[1])
        run.add_artifact(path)
        return artifact

    return run.stage("export" if number == 0 else f"export-{number}", Artifact, compute)


def measure_stage(
    context: Context, run: Run, table: LatencyTable, files: tuple[Path, Path], earlier: Earlier, number: int
) -> Measured:
    """The file's time against the dense one's: twice as many rounds as while choosing, and again where in doubt.

    files: dense and shipped. The timings of the same structure while choosing count too, and where these are apart from
    them there are more of these.
    """
    goal = goal_of(context, table)

    def compute() -> Measured:
        fresh: list[Measured] = []
        while not fresh or in_doubt(fresh):
            fresh.append(against_dense(context, *files, table.dense_ms, times=2))
        return pooled(counted(context.budget, earlier, fresh), context.budget)

    def in_doubt(fresh: list[Measured]) -> bool:
        budget = context.budget
        together = value_of(budget, counted(budget, earlier, fresh))
        before = value_of(budget, earlier.measured) if earlier.measured else None
        own = value_of(budget, fresh)
        apart = before is not None and (contradict(before, own) or own.used > 1.0 >= before.used)
        return (apart and len(fresh) < _FRESH) or doubtful(together, earlier.used, goal, _SURPRISE)

    return run.stage("measure" if number == 0 else f"measure-{number}", Measured, compute)


def counted(budget: LatencyBudget, earlier: Earlier, fresh: list[Measured]) -> list[Measured]:
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


def value_of(budget: LatencyBudget, measured: Sequence[Measured]) -> Value:
    return Value(tuple(session_of(m, budget) for m in measured))


@dataclass(frozen=True)
class Smaller(Saved):
    """Stage `smaller-N`. expected: share of the budget that the untrained file took; measured: its timings."""

    expected: float = 1.0
    measured: list[Measured] = field(default_factory=list)


def tighten(context: Context, run: Run, table: LatencyTable, attempts: Sequence[Attempt], number: int) -> Smaller:
    """A slightly smaller model from a recovered one whose file misses the budget, recovered again for a short time.

    Of the files that miss it the smallest is cut; its model takes the dense one's place for saliency, knapsack and
    compensation. Structures are timed before one is trained, so that one recovery is enough. `folder` of the result is
    where the new model is, "" when no structure is small enough.
    """
    from_ = min((a for a in attempts if a.seen.used > 1.0), key=lambda a: a.seen.used)

    def compute() -> Smaller:
        start = time.monotonic()
        model: Any = load(from_.folder)
        progress.say(f"the file takes {from_.seen.used:.1%} of the budget: cutting a little more")
        found = smaller_structure(context, run, table, model, attempts)
        if found is None:
            return Smaller("", time.monotonic() - start)
        small = cut(model, found.seen.kept)
        compensate(model, small, context.refit_images, context.prepare, run.path / "scratch")
        save(small, context.tools.spec, run.path / "stages" / f"smaller-{number}")
        return Smaller(f"stages/smaller-{number}", time.monotonic() - start, found.seen.used, found.measured)

    smaller = run.stage(f"smaller-{number}", Smaller, compute)
    if smaller.folder and not run.done(f"tighten-{number}"):
        steps = round(TIGHTEN_SHARE * context.images_budget()) // context.recipe.prune.recover.batch_size
        recover_stage(context, run, load(run.path / smaller.folder), steps, f"tighten-{number}")
    return smaller


@dataclass(frozen=True)
class Found:
    """A structure to cut to, and its timings."""

    seen: Seen
    measured: list[Measured]


def smaller_structure(
    context: Context, run: Run, table: LatencyTable, model: Any, attempts: Sequence[Attempt]
) -> Found | None:
    """The structure inside `model` that is nearest to the budget by the device; None where none was found."""
    goal, structure = goal_of(context, table), vit.structure_of(model)
    scratch, task = run.path / "scratch", context.recipe.model.task
    images = context.calibration[:512]
    ranking = saliency_ranking(saliency(model, images, context.prepare, context.recipe.prune.seed, scratch, task))

    def propose(limit_ms: float, like: Structure | None) -> Kept | None:
        widths = allowed(context, drop=False)
        return solve(ranking, structure, structure.depth, table, limit_ms, widths, like)

    dense = run.path / "artifacts" / f"dense{context.tools.target.suffix}"
    with TimedFiles(context, table, model, propose, dense, scratch) as device:
        found = bracket(device, None, goal, [a.seen for a in attempts])
    known = [a.seen for a in attempts]
    chosen = best([*known, *found], goal)
    return None if chosen in known else Found(chosen, device.measured[chosen.structure])


def attempt(
    context: Context, run: Run, table: LatencyTable, folder: Path, dense: Artifact, earlier: Earlier, number: int
) -> Attempt:
    artifact = export_stage(context, run, folder, number)
    measured = measure_stage(context, run, table, (dense.path, artifact.path), earlier, number)
    structure = read_spec(folder)[1]
    sessions = (session_of(measured, context.budget),)
    return Attempt(
        folder, artifact, measured, Seen(sessions, Kept.first(structure), structure, table.predict(structure))
    )


def close_loop(context: Context, run: Run, table: LatencyTable, dense: Artifact, earlier: Earlier) -> Attempt:
    """Exports and times the recovered model, and cuts more while the file misses the budget: three files at most.

    earlier: what the structure took while choosing. The best attempt is returned, with `model/` as its folder: never a
    file over the budget where one inside is known.
    """
    goal, attempts, folder = goal_of(context, table), list[Attempt](), run.path / "model"
    for number in range(MOST_FILES):
        attempts.append(attempt(context, run, table, folder, dense, earlier, number))
        used = attempts[-1].seen.used
        progress.say(f"the file takes {used:.1%} of the budget ({attempts[-1].measured.shipped.p50:.3g} ms)")
        missed = any(a.seen.used > 1.0 for a in attempts)
        if goal.low <= used <= 1.0 or not missed or number == MOST_FILES - 1:
            break
        smaller = tighten(context, run, table, attempts, number)
        if not smaller.folder:
            break
        folder = run.path / f"stages/tighten-{number}"
        earlier = Earlier(smaller.expected, smaller.measured)
    chosen = next(a for a in attempts if a.seen is best([a.seen for a in attempts], goal))
    if chosen.folder != run.path / "model" and world().leads:
        # `model/` is what ships. The stages before are done, so a killed run does not read it again.
        save(load(chosen.folder), context.tools.spec, run.path / "model")
    return Attempt(run.path / "model", chosen.artifact, chosen.measured, chosen.seen)
