"""Exported files and their times: the dense artifact, the latency table, and an artifact against the dense one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.budget import LatencyBudget
from wdp_edge.cost.measure import Setting, measure_table
from wdp_edge.cost.table import LatencyTable
from wdp_edge.device import Kind, TimingPlan, ratio
from wdp_edge.pipeline.context import Context, Toolkit
from wdp_edge.pipeline.sidecar import write_sidecar
from wdp_edge.recipe import Recipe
from wdp_edge.run import Run
from wdp_edge.stages import Measured
from wdp_edge.structure import Structure
from wdp_edge.target import Artifact, ExportOptions

STATIC_CALIBRATION = 128


def export_model(context: Context, model: Any, path: Path) -> Artifact:
    """`model` as a file of the recipe's target and precision."""
    tools = context.tools
    calibration = context.prepare(context.calibration[:STATIC_CALIBRATION])
    return tools.target.export(model, context.example(), path, ExportOptions(tools.precision, calibration))


def latency_table(recipe: Recipe, tools: Toolkit, structure: Structure, dense: Path | None = None) -> LatencyTable:
    """Measured, or read from the cache."""
    setting = Setting(
        spec=tools.spec,
        structure=structure,
        target=tools.target,
        precision=tools.precision,
        device=tools.device,
        plan=tools.plan(recipe),
        options=recipe.prune.table,
    )
    return measure_table(setting, dense_artifact=dense)


def dense_artifact(context: Context, run: Run) -> Artifact:
    """The dense model as a file of the recipe's target and precision: what the budget is held against."""

    def export() -> Artifact:
        path = run.path / "artifacts" / f"dense{context.tools.target.suffix}"
        artifact = export_model(context, context.dense, path)
        write_sidecar(context, artifact, context.structure)
        run.add_artifact(path)
        return artifact

    return run.stage("dense-artifact", Artifact, export)


def against_dense(context: Context, dense: Path, path: Path, dense_ms: float, times: int = 1) -> Measured:
    """Times `path` and the dense artifact in turn in one run, and resolves the budget by it.

    dense_ms: about what the dense artifact takes, by which the rounds are counted. times: how many times as many.
    """
    tools = context.tools
    plan = tools.plan(context.recipe)
    plan = replace(plan, rounds=times * plan.rounds)
    if tools.device.kind is Kind.MEASURED:
        plan = spread_over(plan, times * context.recipe.prune.timing.seconds, 2 * dense_ms)
    with progress.task("time on the device", plan.rounds) as advance:
        dense_timing, timing = tools.device.time(tools.target.name, [dense, path], plan, lambda done, total: advance(1))
    return Measured(
        dense=dense_timing.latency,
        shipped=timing.latency,
        ratio=ratio(timing, dense_timing),
        budget_ms=context.budget.resolve(dense_timing.latency.p50),
        rounds_dense=list(dense_timing.rounds),
        rounds_shipped=list(timing.rounds),
    )


def spread_over(plan: TimingPlan, seconds: float, all_ms: float) -> TimingPlan:
    """A plan whose rounds take at least `seconds`: what disturbs a device for a moment is then a small part of them.

    all_ms: about what one run of every artifact takes. A plan with rests between its rounds is long enough as it is.
    """
    if plan.cooldown_seconds:
        return plan
    round_seconds = (plan.warmup + plan.runs) * all_ms / 1000.0
    return replace(plan, rounds=max(plan.rounds, math.ceil(seconds / round_seconds)))


def used_share(measured: Measured, budget: LatencyBudget) -> float:
    """Measured latency over budget. A share of the dense latency is judged by the interleaved ratio."""
    if budget.share is not None:
        return measured.ratio / budget.share
    return measured.shipped.p50 / measured.budget_ms
