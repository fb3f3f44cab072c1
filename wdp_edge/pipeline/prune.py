"""The main verb: a trained model, real images and a deadline in; a measured file inside the deadline out."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from wdp_edge import progress
from wdp_edge.cost.table import LatencyTable
from wdp_edge.data.loading import check_headers
from wdp_edge.files import write_json
from wdp_edge.models.files import read_spec, save
from wdp_edge.models.surgery import Kept
from wdp_edge.parallel import world
from wdp_edge.pipeline import choose, finish
from wdp_edge.pipeline.context import Context, announce
from wdp_edge.pipeline.inside import already_inside, dense_copy
from wdp_edge.pipeline.plausible import Plausible
from wdp_edge.pipeline.proof import spread, tolerance_of, within
from wdp_edge.pipeline.tighten import Earlier, close_loop
from wdp_edge.pipeline.timing import dense_artifact, latency_table, used_share
from wdp_edge.places import read_result
from wdp_edge.recipe import Recipe
from wdp_edge.results import BudgetFigures, ModelFigures, PruneResult
from wdp_edge.run import Run, check_checkpoint, check_images, checkpoint_facts, now, run_path
from wdp_edge.stages import RESULT, Measured, Verified
from wdp_edge.structure import Structure, count
from wdp_edge.target import Artifact

PACKAGES = ("wdp-edge", "torch", "timm", "numpy", "scipy", "executorch", "torchao")
JUDGED = 256  # held-back images


@dataclass(frozen=True)
class Dense:
    """Stage `dense`: the model that came in."""

    structure: Structure
    parameters: int
    macs: int


def prune(recipe: Recipe, command: Sequence[str] = ()) -> PruneResult:
    """Prunes, recovers, exports, checks and measures; a killed run goes on where it was.

    Under torchrun all processes learn together, and the first does the rest; each returns the same result.
    command: what to show as the command that made the run.
    Raises InputError and SetupError for what the user can mend. A missed budget is a result (`budget.met`).
    """
    context = Context(recipe)
    context.check_prunable()
    with Run(run_path(recipe), recipe, command) as run:
        announce(context)
        if world().leads:
            record_provenance(context, run)
        if run.has(RESULT):
            return read_result(run.path)
        result = make(context, run)
        if world().leads:
            write_json(run.path / RESULT, result)
            run.update_manifest(finished=now())
            finish.clear_scratch(run)
        return result


def record_provenance(context: Context, run: Run) -> None:
    """Versions, device, checkpoint and data into the manifest. Raises InputError when the checkpoint or the images are
    not those it began with."""
    check_checkpoint(context.recipe, run)
    if "data" in run.manifest():
        check_images(context.fingerprints, run)
        run.note_places()
        return
    for folder in (context.train, context.val):
        check_headers(folder)
    run.update_manifest(**checkpoint_facts(context.recipe))
    run.update_manifest(versions=versions(), device=context.tools.device.probe(), data=context.fingerprints)
    run.note_places()
    write_json(run.path / "stages" / "calibration.json", context.sample)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def make(context: Context, run: Run) -> PruneResult:
    """All stages in order; each is read back when it is done already."""
    dense = run.stage("dense", Dense, lambda: describe(context))
    plausible = run.stage("plausible", Plausible, lambda: plausible_stage(context))
    dense_file = dense_artifact(context, run)
    if (inside := already_inside(context, run, dense_file)) is not None:
        return summarise(context, run, ship_dense(context, run, dense, dense_file, inside, plausible))
    table = run.stage(
        "table",
        LatencyTable,
        lambda: latency_table(context.recipe, context.tools, dense.structure, dense_file.path),
    )
    choose.check_record(run, "table", len(table.scales) in (0, context.structure.depth))
    choose.check_reachable(context, table)
    start = choose.saliency_stage(context, run)
    narrow = choose.axes_stage(context, run)
    learn_steps, recover_steps = choose.learning_steps(context)
    learned = choose.learn_stage(context, run, table, start, learn_steps) if learn_steps else None
    selected = choose.select_stage(context, run, table, start, narrow, learned, dense_file.path)
    kept = choose.kept_of(selected)
    small = finish.compensate_stage(context, run, kept)
    finish.recover_stage(context, run, small, recover_steps)
    expected = selected.predicted_ms / context.budget.resolve(table.dense_ms)
    made = close_loop(context, run, table, dense_file, Earlier(expected, selected.measured))
    verified = finish.verify_stage(context, run, kept, made.folder, made.artifact)
    final = finish.final_stage(context, run, made.artifact)
    outcome = Outcome(made.folder, made.artifact, made.measured, verified, final, dense, dense_file, plausible)
    return summarise(context, run, outcome)


def plausible_stage(context: Context) -> Plausible:
    """Said at once: whatever follows would be for nothing."""
    if context.task.facts.relative:
        return Plausible()
    labels = context.holdout[1]
    places = spread(len(labels), JUDGED)
    found = Plausible(context.doubts(context.holdout_teacher[places], labels[places]))
    for warning in found.warnings:
        progress.say(f"warning: {warning}")
    return found


def describe(context: Context) -> Dense:
    counts = count(context.structure, context.geometry)
    return Dense(context.structure, counts.parameters, counts.macs)


def ship_dense(
    context: Context, run: Run, dense: Dense, dense_file: Artifact, measured: Measured, plausible: Plausible
) -> Outcome:
    """The dense model and a copy of its file as what ships, with every figure that a pruned one has."""
    folder, artifact = run.path / "model", dense_copy(context, run, dense_file)
    if not run.done("verify") and world().leads:
        save(context.dense, context.tools.spec, folder)
    verified = finish.verify_stage(context, run, Kept.first(context.structure), folder, artifact)
    final = finish.final_stage(context, run, artifact)
    return Outcome(folder, artifact, measured, verified, final, dense, dense_file, plausible, pruned=False)


@dataclass(frozen=True)
class Outcome:
    """What the stages left."""

    folder: Path
    artifact: Artifact
    measured: Measured
    verified: Verified
    final: finish.Final
    dense: Dense
    dense_file: Artifact
    plausible: Plausible
    pruned: bool = True


def summarise(context: Context, run: Run, outcome: Outcome) -> PruneResult:
    """The figures a user sees."""
    structure = read_spec(outcome.folder)[1]
    counts = count(structure, context.geometry)
    used = used_share(outcome.measured, context.budget)
    measured: Any = outcome.measured
    return PruneResult(
        run=run.path,
        target=outcome.artifact.target,
        precision=outcome.artifact.precision.value,
        device=context.tools.device.name,
        budget=BudgetFigures(
            measured.budget_ms,
            used * measured.budget_ms,
            used,
            used <= 1.0,
            context.tools.device.kind,
            "p50" if context.budget.share is None else "rounds",
        ),
        dense=ModelFigures(
            accuracy=outcome.final.dense_accuracy,
            also=outcome.final.dense_also or None,
            latency_ms=measured.dense,
            macs=outcome.dense.macs,
            parameters=outcome.dense.parameters,
            bytes=outcome.dense_file.bytes,
            path=outcome.dense_file.path,
            exit=outcome.dense.structure.depth,
        ),
        shipped=ModelFigures(
            accuracy=outcome.final.shipped_accuracy,
            also=outcome.final.shipped_also or None,
            latency_ms=measured.shipped,
            macs=counts.macs,
            parameters=counts.parameters,
            bytes=outcome.artifact.bytes,
            path=outcome.artifact.path,
            exit=structure.depth,
            agreement=outcome.final.agreement,
        ),
        verified=within(outcome.verified.parity[-1], tolerance_of(context.recipe.verify, outcome.artifact.precision)),
        task=context.task.facts.name,
        metric=context.task.facts.metric,
        drops=outcome.final.drops,
        warnings=outcome.plausible.warnings,
        pruned=outcome.pruned,
    )
