"""Timing of an artifact, beside the dense one of its run where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.budget import LatencyBudget, check_accepted, parse_budget
from wdp_edge.device import Kind, Timing, ratio
from wdp_edge.devices import check_pair, get_device
from wdp_edge.errors import InputError
from wdp_edge.files import size_of, write_json
from wdp_edge.pipeline.operators import profile_operators, traced_on
from wdp_edge.pipeline.plan import timing_plan
from wdp_edge.pipeline.sidecar import Sidecar, read_sidecar, sidecar_path
from wdp_edge.places import ARTIFACTS, read_result, run_around, run_recipe
from wdp_edge.recipe import PruneRecipe
from wdp_edge.results import BudgetFigures, ProfileResult
from wdp_edge.run import finished_run
from wdp_edge.stages import OPERATORS, RESULT

ROUNDS = 24


def profile(
    path: Path,
    device: str | None = None,
    threads: int | None = None,
    latency_budget: str | None = None,
    accept: str | None = None,
    per_op: bool = False,
    runner: Path | None = None,
) -> ProfileResult:
    """Times an artifact, or a run's shipped one, in turn with the dense artifact of the same target and precision.

    device, threads, accept: as in the run's recipe when None. accept: a kind of times that may pass the budget besides
    measured ones. per_op: also time every operator, and keep that in the run for its report. runner: a program of the
    user's that times the files on the device; None for the recipe's, where the device is the recipe's too.
    Raises InputError when the file is no artifact, when the budget is a share and no dense artifact is there, when the
    device's times may not pass a budget, or the runtime tells no times of operators.
    """
    budget = parse_budget(latency_budget) if latency_budget else None
    if path.is_dir() and not sidecar_path(path).exists():  # a Core ML package is a folder too
        shipped = read_result(finished_run(path)).shipped.path
        path = shipped or path / ARTIFACTS
    sidecar = read_sidecar(path)
    run = run_around(path)
    own = run_recipe(run).prune if run else PruneRecipe()
    threads = threads or own.threads
    named = str(runner) if runner else own.timing.runner if device in (None, own.device) else ""
    runs_on = get_device(device or own.device, named)
    check_pair(runs_on, sidecar.target)
    dense = dense_beside(path, sidecar, run)
    if budget:
        check_accepted(runs_on.name, runs_on.kind, accept or own.accept)
    if budget and budget.share and dense is None:
        raise InputError(
            f"A budget in % needs the dense artifact of the same precision beside {path}.",
            "Give the budget in milliseconds (20ms).",
        )
    traced = traced_on(runs_on, sidecar.target) if per_op else None
    plan = replace(timing_plan(own), rounds=ROUNDS, threads=threads)
    with progress.task("time on the device", plan.rounds) as advance:
        files = [path, dense] if dense else [path]
        timings = runs_on.time(sidecar.target, files, plan, lambda done, total: advance(1))
    operators = profile_operators(traced, path, dense, threads) if traced else None
    if operators and run:
        write_json(run / OPERATORS, operators)
    return ProfileResult(
        path=path,
        target=sidecar.target,
        device=runs_on.name,
        threads=threads,
        latency_ms=timings[0].latency,
        bytes=size_of(path),
        dense_latency_ms=timings[1].latency if dense else None,
        peak_memory=timings[0].peak_memory if named or not dense else None,  # of a process with this file only
        ratio=ratio(timings[0], timings[1]) if dense else None,
        budget=against(budget, timings, runs_on.kind) if budget else None,
        operators=operators,
    )


def against(budget: LatencyBudget, timings: Sequence[Timing], kind: Kind) -> BudgetFigures:
    """The first file's time against the budget; a share is judged by the interleaved ratio to the second, dense one."""
    limit = budget.resolve(timings[-1].latency.p50)
    used = ratio(timings[0], timings[-1]) / budget.share if budget.share else timings[0].latency.p50 / limit
    return BudgetFigures(limit, used * limit, used, used <= 1.0, kind)


def dense_beside(path: Path, sidecar: Sidecar, run: Path | None) -> Path | None:
    """The dense artifact of the run when it is of the same target and precision as the file."""
    if run is None or not (run / RESULT).exists():
        return None
    own = read_result(run)
    if (own.target, own.precision) != (sidecar.target, sidecar.precision) or own.dense.path is None:
        return None
    dense = path.with_name(own.dense.path.name)
    return dense if dense.exists() else None
