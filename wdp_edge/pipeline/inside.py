"""A dense file that is inside the budget as it is: found out before anything is measured or learned for pruning."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.device import Kind, Timing, TimingPlan
from wdp_edge.files import atomic_folder, atomic_path
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.sidecar import write_sidecar
from wdp_edge.pipeline.timing import pooled, session_of, spread_over, used_share
from wdp_edge.run import Run
from wdp_edge.select.bracket import Value
from wdp_edge.stages import Measured
from wdp_edge.target import Artifact

_MOST_SESSIONS = 3


def already_inside(context: Context, run: Run, dense: Artifact) -> Measured | None:
    """The dense file's own timing where that is inside the budget; None where it is not, or pruning is forced."""
    share = context.budget.share
    if context.recipe.prune.force or (share is not None and share < 1.0):
        return None
    measured = run.stage("measure-dense", Measured, lambda: time_dense(context, dense.path))
    used = used_share(measured, context.budget)
    if used > 1.0:
        return None
    progress.say(
        f"the dense file takes {measured.dense.p50:.3g} ms, {used:.1%} of the budget: it ships as it is, "
        "and nothing is pruned (--force prunes it all the same)"
    )
    return measured


def time_dense(context: Context, path: Path) -> Measured:
    """The dense file alone, in the place of both; again where the budget is within what its timing may be wrong by."""
    plan = context.tools.plan(context.recipe)
    quick = timed(context, path, replace(plan, rounds=1))
    if context.tools.device.kind is Kind.MEASURED:
        plan = spread_over(plan, context.recipe.prune.timing.seconds, quick.latency.p50)
    seen: list[Measured] = []
    while not seen or (len(seen) < _MOST_SESSIONS and in_doubt(context, seen)):
        timing = timed(context, path, plan)
        budget_ms = context.budget.resolve(timing.latency.p50)
        rounds = list(timing.rounds)
        seen.append(Measured(timing.latency, timing.latency, 1.0, budget_ms, rounds, rounds))
    return pooled(seen, context.budget)


def timed(context: Context, path: Path, plan: TimingPlan) -> Timing:
    tools = context.tools
    with progress.task("time the dense file", plan.rounds) as advance:
        return tools.device.time(tools.target.name, [path], plan, lambda done, total: advance(1))[0]


def in_doubt(context: Context, seen: list[Measured]) -> bool:
    value = Value(tuple(session_of(m, context.budget) for m in seen))
    return abs(value.used - 1.0) <= 2 * value.spread and value.spread > 0


def dense_copy(context: Context, run: Run, dense: Artifact) -> Artifact:
    """The dense file under the name that a shipped file has."""

    def copy() -> Artifact:
        path = dense.path.with_name(f"model{context.tools.target.suffix}")
        if dense.path.is_dir():
            with atomic_folder(path) as unfinished:
                shutil.copytree(dense.path, unfinished, dirs_exist_ok=True)
        else:
            with atomic_path(path) as unfinished:
                shutil.copyfile(dense.path, unfinished)
        artifact = replace(dense, path=path)
        write_sidecar(context, artifact, context.structure)
        run.add_artifact(path)
        return artifact

    return run.stage("export", Artifact, copy)
