"""Timing of an artifact, beside the dense one of its run where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.budget import check_accepted, parse_budget
from wdp_edge.device import Kind, ratio
from wdp_edge.devices import get_device
from wdp_edge.errors import InputError
from wdp_edge.files import write_json
from wdp_edge.pipeline.operators import profile_operators
from wdp_edge.pipeline.plan import timing_plan
from wdp_edge.pipeline.sidecar import read_sidecar
from wdp_edge.plain import read_as
from wdp_edge.recipe import PruneRecipe
from wdp_edge.recipe_file import load_recipe
from wdp_edge.results import BudgetFigures, ProfileResult, PruneResult
from wdp_edge.run import finished_run
from wdp_edge.stages import MANIFEST, OPERATORS, RECIPE, RESULT

ROUNDS = 24


def profile(
    path: Path,
    device: str = "local",
    threads: int | None = None,
    latency_budget: str | None = None,
    accept: str | None = None,
    per_op: bool = False,
) -> ProfileResult:
    """Times an artifact, or a run's shipped one, in turn with the dense artifact of the same precision.

    per_op: also time every operator, and keep that in the run for its report.
    accept: a kind of times that may pass the budget besides measured ones; None asks the run's recipe.
    Raises InputError when the file is no artifact, when the budget is a share and no dense artifact is there, or the
    device's times may not pass a budget.
    """
    budget = parse_budget(latency_budget) if latency_budget else None
    runs_on = get_device(device)
    if path.is_dir():
        shipped = read_as(finished_run(path) / RESULT, PruneResult).shipped.path
        path = path / "artifacts" / (shipped.name if shipped else "")
    sidecar = read_sidecar(path)
    run = path.parent.parent if (path.parent.parent / MANIFEST).exists() else None
    recipe = load_recipe(run / RECIPE) if run else None
    dense = dense_beside(path, sidecar.precision, run)
    if budget:
        check_accepted(device, runs_on.kind, accept or (recipe.prune.accept if recipe else Kind.MEASURED))
    if budget and budget.share and dense is None:
        raise InputError(
            f"A budget in % needs the dense artifact of the same precision beside {path}.",
            "Give the budget in milliseconds (20ms).",
        )
    threads = threads or (recipe.prune.threads if recipe else 1)
    plan = replace(timing_plan(recipe.prune if recipe else PruneRecipe()), rounds=ROUNDS, threads=threads)
    files = [path, dense] if dense else [path]
    with progress.task("time on the device", plan.rounds) as advance:
        timings = runs_on.time(sidecar.target, files, plan, lambda done, total: advance(1))
    relative = ratio(timings[0], timings[1]) if dense else None
    operators = profile_operators(path, dense, device, threads) if per_op else None
    if operators and run:
        write_json(run / OPERATORS, operators)
    figures = None
    if budget:
        limit = budget.resolve(timings[1].latency.p50 if dense else 0.0)
        used = relative / budget.share if budget.share and relative else timings[0].latency.p50 / limit
        figures = BudgetFigures(limit, used * limit, used, used <= 1.0, runs_on.kind)
    return ProfileResult(
        path=path,
        target=sidecar.target,
        device=device,
        threads=threads,
        latency_ms=timings[0].latency,
        bytes=path.stat().st_size,
        dense_latency_ms=timings[1].latency if dense else None,
        ratio=relative,
        budget=figures,
        operators=operators,
    )


def dense_beside(path: Path, precision: str, run: Path | None) -> Path | None:
    """The dense artifact of the run when it has the same precision as the file."""
    if run is None or not (run / RESULT).exists():
        return None
    dense = path.with_name(f"dense{path.suffix}")
    own = read_as(run / RESULT, PruneResult).precision
    return dense if dense.exists() and own == precision else None
