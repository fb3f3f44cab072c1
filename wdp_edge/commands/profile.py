"""Timing of an artifact, beside the dense one of its run where there is one, and where its time goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.artifacts.sidecar import Sidecar, read_sidecar, sidecar_path
from wdp_edge.config.recipe import PruneRecipe
from wdp_edge.config.values import LatencyBudget, check_accepted, parse_budget
from wdp_edge.cost.parts import Part, parts_of
from wdp_edge.errors import InputError
from wdp_edge.io.files import size_of, write_json
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.device import Device, Kind, Timing, TracingDevice, check_pair, get_device, ratio
from wdp_edge.protocols.target import OperatorTime
from wdp_edge.pruning.toolkit import timing_plan
from wdp_edge.runs.figures import BudgetFigures
from wdp_edge.runs.places import ARTIFACTS, read_result, run_around, run_recipe
from wdp_edge.runs.results import KindTime, OperatorProfile, OperatorProfiles, PartTime, ProfileResult
from wdp_edge.runs.run import finished_run
from wdp_edge.runs.stages import OPERATORS, RESULT

ROUNDS = 24
_RUNS = 60


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
    device's times may not pass a budget, or the runtime does not report the times of operators.
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


def traced_on(device: Device, target: str) -> TracingDevice:
    """`device`, when it tells times of operators. Raises InputError for a device or a target that does not."""
    if not isinstance(device, TracingDevice):
        raise InputError(
            f"Operators are timed on this machine and on Apple's devices only, not on '{device.name}'.",
            "Leave --per-op out, or time it on local.",
        )
    if not device.traces(target):
        raise InputError(f"The runtime of '{target}' does not report the times of operators.", "Leave --per-op out.")
    return device


def profile_operators(device: TracingDevice, path: Path, dense: Path | None, threads: int) -> OperatorProfiles:
    """The artifact's operators, and those of the dense one beside it."""
    return OperatorProfiles(one(device, path, threads), one(device, dense, threads) if dense else None)


def one(device: TracingDevice, path: Path, threads: int) -> OperatorProfile:
    sidecar = read_sidecar(path)
    times = device.trace(sidecar.target, path, threads, _RUNS)
    return OperatorProfile(
        path=path,
        ms=sum(t.ms for t in times),
        outside_ms=sum(t.ms for t in times if not t.delegated),
        kinds=by_kind(times),
        parts=by_part(times, sidecar.structure),
        kind=device.operator_kind,
    )


def by_kind(times: Sequence[OperatorTime]) -> list[KindTime]:
    """Slowest first."""
    groups: dict[str, list[OperatorTime]] = defaultdict(list)
    for time in times:
        groups[time.name].append(time)
    kinds = [KindTime(k, len(g), sum(t.delegated for t in g), sum(t.ms for t in g)) for k, g in groups.items()]
    return sorted(kinds, key=lambda k: -k.ms)


def by_part(times: Sequence[OperatorTime], structure: Structure) -> list[PartTime] | None:
    """In the order of the model; None where operators cannot be told apart."""
    places = parts_of([t.role for t in times], structure)
    if places is None:
        return None
    sums: dict[tuple[Part, int | None], float] = defaultdict(float)
    for place, time in zip(places, times, strict=True):
        sums[place] += time.ms
    return [PartTime(part.value, block, ms) for (part, block), ms in sums.items()]
