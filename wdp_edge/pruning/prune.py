"""The main verb: a trained model, real images and a deadline in; a measured file inside the deadline out.

`stages` lists what happens from top to bottom; `fitted` and `proven`, below it, are its last parts. Each line says what
a stage gives, the name and the kind of its record in the run, the function that makes it, and all that this needs.
"""

from __future__ import annotations

import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from wdp_edge import progress
from wdp_edge.artifacts.proof import tolerance_of, within
from wdp_edge.artifacts.sidecar import write_sidecar
from wdp_edge.config.budgets import Budget, budget_label
from wdp_edge.config.recipe import Recipe
from wdp_edge.data.loading import check_headers
from wdp_edge.data.walk import counted
from wdp_edge.errors import InputError
from wdp_edge.io.files import atomic_folder, atomic_path, inner_path, write_json
from wdp_edge.learn.exits import depths_of
from wdp_edge.models.files import load, read_spec, save
from wdp_edge.models.structure import Structure, count
from wdp_edge.models.surgery import Kept
from wdp_edge.protocols.target import Artifact, Target
from wdp_edge.pruning import choose, first_look
from wdp_edge.pruning.bench import Bench
from wdp_edge.pruning.budgets import bench_of, figures_of, may_ship_dense, time_budget
from wdp_edge.pruning.course import course_of
from wdp_edge.pruning.finish import Final, Saved, compensated_model, final_figures, recovered_model, verified_file
from wdp_edge.pruning.first_look import Plausible
from wdp_edge.pruning.inputs import DenseModel, Inputs
from wdp_edge.pruning.selection import Selection
from wdp_edge.pruning.tighten import (
    MOST_FILES,
    Attempt,
    Earlier,
    Smaller,
    best_attempt,
    good_enough,
    measured_file,
    smaller_model,
)
from wdp_edge.pruning.widths import Beginning, learned_scores
from wdp_edge.runs.expected import write_habits
from wdp_edge.runs.figures import ModelFigures
from wdp_edge.runs.places import read_result
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.run import Run, check_checkpoint, check_images, checkpoint_facts, now, run_path
from wdp_edge.runs.shared import PACKAGES, take_shared
from wdp_edge.runs.stages import RESULT, Learned, Measured, Recovered, Selected, Verified
from wdp_edge.runs.sweeps import names_several
from wdp_edge.shrink.saliency import Saliency
from wdp_edge.workers.parallel import wait, world


@dataclass(frozen=True)
class Dense:
    """Stage `dense`: the model that came in."""

    structure: Structure
    parameters: int
    macs: int


Known = tuple[Dense, Artifact, Plausible]
"""The dense model, its file, and what has to be said of it."""


def prune(recipe: Recipe, command: Sequence[str] = ()) -> PruneResult:
    """Prunes, recovers, exports, checks and measures; a killed run goes on where it was.

    Under torchrun all processes learn together, and the first does the rest; each returns the same result.
    command: what to show as the command that made the run.
    Raises InputError and SetupError for what the user can mend. A missed budget is a result (`budget.met`).
    """
    if several := names_several(recipe.prune):
        raise InputError(f"prune takes one {several[0]}, not {several[1]}.", "Call wdp_edge.sweep for several.")
    return pruned(Inputs.of(recipe), command)


def pruned(inputs: Inputs, command: Sequence[str] = (), siblings: Sequence[Path] = ()) -> PruneResult:
    """`prune` of what was loaded before. siblings: runs with another budget, from which the run takes what it shares
    with them."""
    recipe, budget = inputs.recipe, inputs.check_prunable()
    with Run(run_path(recipe), recipe, command) as run:
        announce(inputs)
        if world().leads:
            record_provenance(inputs, run)
        if run.has(RESULT):
            return read_result(run.path)
        if world().leads:
            for sibling in siblings:
                take_shared(sibling, run)
        wait()
        course = course_of(inputs)
        with progress.follow(course):
            result = summarise(inputs, budget, run, stages(inputs, budget, run))
        if world().leads:
            write_habits(course.learned())
            write_json(run.path / RESULT, result)
            run.update_manifest(finished=now())
            clear_scratch(run)
        return result


def announce(inputs: Inputs) -> None:
    """Says what is done with what."""
    tools, data = inputs.tools, inputs.data
    progress.say(
        f"{inputs.model.spec.name}, {len(data.train)} training images, budget {budget_label(inputs.recipe.prune)} "
        f"({tools.target.name}, {tools.precision}, {tools.device.name})"
    )
    for name, folder in (("training", data.train), ("validation", data.val)):
        if folder.left_out:
            progress.say(f"Left out of the {name} images: {counted(Counter(dict(folder.left_out)))}.")


def record_provenance(inputs: Inputs, run: Run) -> None:
    """Versions, device, checkpoint and data into the manifest. Raises InputError when the checkpoint or the images are
    not those it began with."""
    data = inputs.data
    check_checkpoint(inputs.recipe, run)
    if "data" in run.manifest():
        check_images(data.fingerprints, run)
        run.note_places()
        return
    for folder in (data.train, data.val):
        check_headers(folder)
    run.update_manifest(**checkpoint_facts(inputs.recipe))
    tools = inputs.tools
    run.update_manifest(versions=versions(tools.target), device=tools.device.probe(), data=data.fingerprints)
    run.note_places()
    write_json(run.path / "stages" / "calibration.json", data.sample)


def versions(target: Target) -> dict[str, str]:
    """Of Python and of every package that makes the file."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}, **target.versions()}


def stages(inputs: Inputs, budget: Budget, run: Run) -> Outcome:
    """Every stage in order; one whose record is there is read back instead."""
    options, tools, model, data = inputs.recipe.prune, inputs.tools, inputs.model, inputs.data
    held_back, blocks, stage, path = inputs.held_back, inputs.model.structure.blocks, run.stage, run.path

    dense = stage("dense", Dense, partial(described, model))
    plausible = stage("plausible", Plausible, partial(first_look.of_held_back, held_back))
    dense_file = stage("dense-artifact", Artifact, partial(exported, inputs, run, None, "dense"))
    known = dense, dense_file, plausible
    if may_ship_dense(options, model, budget):
        alone = stage("measure-dense", Measured, partial(tools.time_alone, dense_file.path, time_budget(budget)))
        figures = figures_of(inputs, budget, alone, model.structure)
        if figures.met:
            say_inside(alone, figures.ratio)
            return dense_as_it_is(inputs, run, alone, known)

    bench = bench_of(inputs, budget, run, dense_file.path)
    check_record(run, "table", len(bench.table.scales) in (0, len(blocks)))
    choose.check_reachable(bench, model, options)

    information = choose.Information(model.module, data)
    importance = stage("saliency", Saliency, partial(choose.importance_of, information, bench.scratch))
    check_record(run, "saliency", choose.fits(importance, blocks))
    turned = choose.Turned()
    if widths := choose.head_widths(model.module, options.select):
        turned = stage("axes", choose.Turned, partial(choose.turned_model, model.spec, information, widths, path))
    source = load(inner_path(path, turned.folder)) if turned.folder else model.module
    steps, learned = choose.steps_of(options, len(data.train_indices)), None
    if steps.learn:
        beginning = Beginning(choose.rankings_of(importance, turned.narrow, None, bench.table)[-1], options, steps)
        learn = partial(learned_scores, bench, source, beginning, path)
        learned = stage("learn", Learned, learn, together=True)
        check_record(run, "learn", choose.fits(learned, blocks))
    rankings = choose.rankings_of(importance, turned.narrow, learned, bench.table)
    depths, room = (
        depths_of(model.module, options.learn.exits, options.select.exit),
        options.compensate.scratch_gb * 1e9,
    )
    selection = Selection(bench, held_back, source, options.select, depths, room)
    selected = stage("select", Selected, partial(choose.selected_structure, selection, rankings))
    check_record(run, "select", choose.fits(selected, blocks))

    kept = choose.kept_of(selected)
    refit = stage("compensate", Saved, partial(compensated_model, model, data, source, kept, options.compensate, path))
    recover = partial(
        recovered_model, held_back, options, inputs.rounding, path, refit.folder, steps.recover, "recover"
    )
    stage("recover", Recovered, recover, together=True)
    earlier = Earlier(selected.predicted_ms / bench.goal.budget_ms, selected.measured)
    made = fitted(inputs, run, bench, earlier, steps.tighten)
    verified, final = proven(inputs, run, source, kept, made.artifact)
    return Outcome(made.artifact, made.measured, verified, final, *known)


def fitted(inputs: Inputs, run: Run, bench: Bench, earlier: Earlier, steps: int) -> Attempt:
    """Exports and times the recovered model, and cuts more while the file misses the budget: three files at most.

    earlier: what the structure took while choosing. steps: of a recovery after another cut. The best attempt is
    returned, with its model in `model/`: never a file over the budget where one inside is known.
    """
    options, stage, attempts, folder = inputs.recipe.prune, run.stage, list[Attempt](), run.path / "model"
    for number in range(MOST_FILES):
        suffix = f"-{number}" if number else ""
        artifact = stage(f"export{suffix}", Artifact, partial(exported, inputs, run, folder, f"model{suffix}"))
        measured = stage(f"measure{suffix}", Measured, partial(measured_file, bench, artifact.path, earlier))
        attempts.append(Attempt.of(folder, artifact, measured, bench))
        used = attempts[-1].seen.used
        progress.say(f"the file takes {used:.1%} of the budget ({measured.shipped.p50:.3g} ms)")
        if good_enough(attempts, bench.goal) or number == MOST_FILES - 1:
            break
        name, again = f"smaller-{number}", f"tighten-{number}"
        cut = partial(smaller_model, bench, inputs.model, options.compensate, attempts, run.path, name)
        smaller = stage(name, Smaller, cut)
        if not smaller.folder:
            break
        held_back, simulated = inputs.held_back, inputs.rounding
        recover = partial(recovered_model, held_back, options, simulated, run.path, smaller.folder, steps, again)
        stage(again, Recovered, recover, together=True)
        folder, earlier = run.path / "stages" / again, Earlier(smaller.expected, smaller.measured)
    chosen = best_attempt(attempts, bench.goal)
    if chosen.folder != run.path / "model" and world().leads:
        # `model/` is what ships. The stages before are done, so a killed run does not read it again.
        save(load(chosen.folder), inputs.model.spec, run.path / "model")
    return chosen


def proven(inputs: Inputs, run: Run, source: nn.Module, kept: Kept, artifact: Artifact) -> tuple[Verified, Final]:
    """The model in `model/` and its file, held against the dense model. source, kept: what it was cut from, and how."""
    tools, model, data, folder = inputs.tools, inputs.model, inputs.data, run.path / "model"
    verify = partial(verified_file, tools, data, inputs.recipe.verify, source, kept, folder, artifact)
    verified = run.stage("verify", Verified, verify)
    final = run.stage("final", Final, partial(final_figures, tools, model, data, artifact))
    return verified, final


def dense_as_it_is(inputs: Inputs, run: Run, alone: Measured, known: Known) -> Outcome:
    """The dense model and a copy of its file as what ships, with every figure that a pruned one has."""
    model = inputs.model
    artifact = run.stage("export", Artifact, partial(dense_copy, inputs, run, known[1]))
    if not run.done("verify") and world().leads:
        save(model.module, model.spec, run.path / "model")
    verified, final = proven(inputs, run, model.module, Kept.first(model.structure), artifact)
    return Outcome(artifact, alone, verified, final, *known, pruned=False)


def check_record(run: Run, name: str, fits: bool) -> None:
    """Raises InputError for a stage's record that does not fit the model of its run."""
    if not fits:
        raise InputError(
            f"{run.path / 'stages' / name}.json is damaged: it does not fit the model.",
            "Restore the file or start a new run.",
        )


def described(model: DenseModel) -> Dense:
    counts = count(model.structure, model.geometry)
    return Dense(model.structure, counts.parameters, counts.macs)


def exported(inputs: Inputs, run: Run, folder: Path | None, name: str) -> Artifact:
    """The model in `folder`, or the dense one, as a file of the run's target and precision."""
    tools, dense = inputs.tools, inputs.model
    module, structure = (load(folder), read_spec(folder)[1]) if folder else (dense.module, dense.structure)
    path = run.path / "artifacts" / f"{name}{tools.target.suffix}"
    artifact = tools.export(module, inputs.data, path, inputs.texts(structure, run.path))
    write_sidecar(artifact, inputs.data.input_facts, structure)
    run.add_artifact(path)
    return artifact


def say_inside(alone: Measured, used: float) -> None:
    progress.say(
        f"the dense file takes {alone.dense.p50:.3g} ms, {used:.1%} of the budget: it ships as it is, and nothing is "
        "pruned (--force prunes it all the same)"
    )


def dense_copy(inputs: Inputs, run: Run, dense: Artifact) -> Artifact:
    """The dense file under the name that a shipped file has."""
    path = dense.path.with_name(f"model{inputs.tools.target.suffix}")
    if dense.path.is_dir():
        with atomic_folder(path) as unfinished:
            shutil.copytree(dense.path, unfinished, dirs_exist_ok=True)
    else:
        with atomic_path(path) as unfinished:
            shutil.copyfile(dense.path, unfinished)
    artifact = replace(dense, path=path)
    write_sidecar(artifact, inputs.data.input_facts, inputs.model.structure)
    run.add_artifact(path)
    return artifact


def clear_scratch(run: Run) -> None:
    """Removes what only an unfinished run needs."""
    shutil.rmtree(run.path / "scratch", ignore_errors=True)
    for checkpoint in (run.path / "stages").glob("*.checkpoint"):
        checkpoint.unlink()


@dataclass(frozen=True)
class Outcome:
    """What the stages left."""

    artifact: Artifact
    measured: Measured
    verified: Verified
    final: Final
    dense: Dense
    dense_file: Artifact
    plausible: Plausible
    pruned: bool = True


def summarise(inputs: Inputs, budget: Budget, run: Run, outcome: Outcome) -> PruneResult:
    """The figures a user sees."""
    structure = read_spec(run.path / "model")[1]
    counts = count(structure, inputs.model.geometry)
    measured: Any = outcome.measured
    return PruneResult(
        run=run.path,
        target=outcome.artifact.target,
        precision=outcome.artifact.precision,
        device=inputs.tools.device.name,
        budget=figures_of(inputs, budget, measured, structure),
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
        verified=within(outcome.verified.parity[-1], tolerance_of(inputs.recipe.verify, inputs.tools.precision)),
        task=inputs.data.final_task.facts.name,
        metric=inputs.data.final_task.facts.metric,
        drops=outcome.final.drops,
        warnings=outcome.plausible.warnings,
        first_look=outcome.plausible.look,
        pruned=outcome.pruned,
    )
