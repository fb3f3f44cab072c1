"""All artifacts of a run held against its model, and the model against the dense one.

Integer files also on processors of other kinds than this machine's, where an emulator stands for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from wdp_edge import progress
from wdp_edge.artifacts.export_job import Exporter
from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import tolerance_of, within
from wdp_edge.artifacts.sidecar import Sidecar, note_proofs, read_facts, read_sidecar
from wdp_edge.commands.export import judged
from wdp_edge.commands.inspect import target_by_name
from wdp_edge.commands.source import Source
from wdp_edge.devices.emulated import Emulated, get_processor, outputs_on
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.errors import InputError, WdpError
from wdp_edge.io.files import inner_path, remove
from wdp_edge.models import vit
from wdp_edge.protocols.device import Latency, TimingPlan, get_device, runs_on
from wdp_edge.protocols.target import Artifact, get_target, precision_names, precision_of
from wdp_edge.protocols.task import get_task
from wdp_edge.pruning.toolkit import timing_plan
from wdp_edge.runs.look import knows_by_heart
from wdp_edge.runs.results import ArtifactFigures, ProcessorProof, UnjudgedFile, VerifyResult
from wdp_edge.runs.run import Run, recorded_artifacts

_IMAGES = 32  # an emulator takes some fifty times as long


def verify(run: Path, processors: Sequence[str] = ()) -> VerifyResult:
    """Runs every artifact of the run's model through its own runtime on held-back images, and times it where it can be.

    An artifact that is not as close as the recipe's [verify] asks is exported in parts to find where it goes wrong. One
    that is missing, damaged or cannot be judged here does not keep the others from it: see `unjudged` of the result. It
    has those that the device did not time, too.
    processors: emulated ones (`wdp_edge.devices.emulated.PROCESSORS`) on which files whose layers multiply integers are
    held against it too; `unjudged` also has those that do not run there.
    Raises InputError for an unfinished run, one without artifacts, or when the only one cannot be judged.
    """
    emulated = [get_processor(name) for name in dict.fromkeys(processors)]
    source = Source.of(run)
    with Run(run, source.recipe) as held:
        found, unjudged = artifacts_of(source, held)
        if emulated and not any(multiplies_integers(artifact) for artifact, _ in found):
            raise InputError(
                f"{run} has no file whose layers multiply integers, so it has none to emulate.",
                "Leave --processor out, or export one first: wdp-edge export --precision int8-dynamic",
            )
        dense = source.dense_outputs
        with progress.task("compare artifacts with the model", len(found)) as advance:
            figures = []
            for artifact, sidecar in found:
                try:
                    seen = examined(source, artifact, sidecar)
                    if emulated and multiplies_integers(artifact):
                        seen, lost = elsewhere(source, artifact, sidecar, seen, emulated)
                        unjudged += lost
                    figures.append(seen)
                except WdpError as error:
                    if len(found) == 1 and not unjudged:
                        raise
                    precision = artifact.precision
                    unjudged.append(UnjudgedFile.of(error, artifact.path, artifact.target, precision))
                advance(1)
        remove(run / "scratch")
    verified = not unjudged and all(f.verified for f in figures)
    figures, untimed = timed(figures, source.recipe.prune.device, timing_plan(source.recipe.prune))
    reference, task = source.reference, source.data.task
    pruned = source.inputs.model.structure != vit.structure_of(source.model)
    dense_accuracy = reference.metric(dense)
    return VerifyResult(
        run=run,
        images=len(reference.images),
        dense_accuracy=dense_accuracy,
        shrunk_accuracy=reference.metric(reference.outputs),
        shrunk=compare("dense = shrunk", dense, reference.outputs, task.agreement) if pruned else None,
        artifacts=figures,
        verified=verified,
        task=task.facts.name,
        metric=task.facts.metric,
        unjudged=[*unjudged, *untimed],
        held_back=source.data.proves_on_held_back,
        memorised=knows_by_heart(task.facts, dense_accuracy, len(reference.images)),
    )


def artifacts_of(source: Source, run: Run) -> tuple[list[tuple[Artifact, Sidecar]], list[UnjudgedFile]]:
    """Artifacts of the run's final model with the facts beside them, by target and precision; and damaged ones.

    Files of models that were cut further, and the dense file, have another structure and are left out.
    Raises InputError where there are none, for names that leave the run, and what is wrong with the only one.
    """
    structure, found, lost, errors = vit.structure_of(source.model), [], [], []
    for name in sorted(recorded_artifacts(run.path)):
        path = inner_path(run.path, name)
        if not path.name.startswith("model"):
            continue
        target, precision = named(path)
        try:
            sidecar = read_facts(path)
            if sidecar.structure != structure:
                continue
            target, precision = sidecar.target, sidecar.precision
            if not path.exists():
                raise InputError(f"{path} does not exist.", "Restore it, or export it again with: wdp-edge export")
            read_sidecar(path)
        except InputError as error:
            errors.append(error)
            lost.append(UnjudgedFile(path, target, precision, error.message, error.hint))
        else:
            found.append((Artifact.of(path, target, sidecar.precision), sidecar))
    if not found and len(errors) == 1:
        raise errors[0]
    if not found and not lost:
        raise InputError(f"There are no artifacts in {run.path}.", "Make some with: wdp-edge export --target all")
    return sorted(found, key=lambda f: (f[0].target, f[0].precision)), lost


def multiplies_integers(artifact: Artifact) -> bool:
    """Whether the file's layers do. False for a file of a target that is not here: it is not judged, and said why."""
    try:
        return precision_of(artifact.target, artifact.precision).integer
    except WdpError:
        return False


def named(path: Path) -> tuple[str, str]:
    """Target and precision of a file without facts, as far as its name tells; "?" where it does not."""
    known = [p for p in precision_names() if path.name.startswith(f"model-{p}")]
    try:
        return target_by_name(path), max(known, key=len, default="?")
    except WdpError:
        return "?", max(known, key=len, default="?")


def examined(source: Source, artifact: Artifact, sidecar: Sidecar) -> ArtifactFigures:
    """One artifact against the model; where it is too far off, parts of it are exported to find the place."""
    figures = source.judge(artifact, sidecar.pixels)
    if figures.verified:
        return figures
    job = source.job(artifact.path, artifact.precision, sidecar.pixels)
    with Exporter(artifact.target, source.folder) as exporter:
        return judged(source, exporter, job, figures)


def timed(
    figures: Sequence[ArtifactFigures], device_name: str, plan: TimingPlan
) -> tuple[list[ArtifactFigures], list[UnjudgedFile]]:
    """With latencies: artifacts of one target in turn in one process. And those that the device should have timed, with
    what kept it from that.

    Those that the device does not run, or that only evaluate here, get none.
    """
    names = [name for name in dict.fromkeys(f.target for f in figures) if get_target(name).timed_here()]
    latencies: dict[Path, Latency] = {}
    untimed: list[UnjudgedFile] = []
    with progress.task("time on the device", max(1, len(names) * plan.rounds)) as advance:
        for name in names:
            of_target = [f for f in figures if f.target == name]
            paths = [f.path for f in of_target]
            try:
                device = get_device(device_name)
                if runs_on(device, name):
                    timings = device.time(name, paths, plan, lambda done, total: advance(1))
                    latencies |= {path: timing.latency for path, timing in zip(paths, timings, strict=True)}
            except WdpError as error:
                lost = [UnjudgedFile.of(error, f.path, name, f.precision, device_name) for f in of_target]
                untimed += [replace(one, reason=f"It could not be timed: {one.reason}") for one in lost]
    return [replace(f, latency_ms=latencies.get(f.path)) for f in figures], untimed


def elsewhere(
    source: Source, artifact: Artifact, sidecar: Sidecar, figures: ArtifactFigures, processors: Sequence[Emulated]
) -> tuple[ArtifactFigures, list[UnjudgedFile]]:
    """`figures` of an integer file with the proofs on these processors, which are noted beside it; verified where all
    are. And where it could not be run.
    """
    proofs, unjudged = [], []
    for processor in processors:
        try:
            proofs.append(proof_on(source, artifact, sidecar, processor))
        except WdpError as error:
            kind = artifact.precision
            unjudged.append(UnjudgedFile.of(error, artifact.path, artifact.target, kind, processor.name))
    known = note_proofs(artifact.path, proofs)
    verified = figures.verified and all(proof.verified for proof in proofs)
    return replace(figures, verified=verified, proven_on=known), unjudged


def proof_on(source: Source, artifact: Artifact, sidecar: Sidecar, processor: Emulated) -> ProcessorProof:
    """The file on an emulated processor, against the model and against itself on this machine.

    Raises as `outputs_on` does.
    """
    reference, path = source.reference, artifact.path
    count = min(_IMAGES, len(reference.images))
    images = list(reference.inputs(sidecar.pixels, count))
    there = outputs_on(processor, artifact.target, path, torch.cat(images))
    here = run_artifact(artifact.target, path, images, count, f"{path.name} here", processes=1).flatten(1)
    agreement = get_task(reference.task).agreement
    outputs = reference.outputs[:count]
    parity = compare("file = file elsewhere", outputs, there.reshape(outputs.shape), agreement)
    parity = replace(parity, simulated_error=source.simulated(artifact.target, artifact.precision))
    return ProcessorProof(
        processor=processor.kind,
        verified=within(parity, tolerance_of(source.recipe.verify, precision_of(artifact.target, artifact.precision))),
        images=count,
        emulator=f"{processor.emulator} -cpu {processor.cpu}",
        difference=float((here - there).abs().max() / here.abs().max()),
    )
