"""Artifacts of a finished run's model: any targets, any precisions, each proven on real images."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.artifacts.export_job import Exporter, ExportJob
from wdp_edge.artifacts.proof import artifact_path
from wdp_edge.commands.auto import export_auto
from wdp_edge.commands.source import Source
from wdp_edge.errors import InputError, SetupError, WdpError
from wdp_edge.io.files import remove
from wdp_edge.protocols.target import (
    CPU,
    get_target,
    on_unit,
    parse_precision,
    precision_names,
    targets_of,
)
from wdp_edge.runs.places import run_recipe
from wdp_edge.runs.results import ArtifactFigures, ExportResult, UnjudgedFile
from wdp_edge.runs.run import Run

ALL, AUTO = "all", "auto"
_PROCESSES = 2


def export(
    run: Path,
    targets: Sequence[str] = (),
    precisions: Sequence[str] = ("default",),
    pixels: bool = False,
    accuracy_drop: float | None = None,
    unit: str | None = None,
) -> ExportResult:
    """Writes `artifacts/model-<precision><suffix>` for every target and precision, and compares each with the model.

    targets: names, or "all"; the run's own when empty. precisions: each target gets all of them; "default" is what
    the target recommends, or the run's own precision when no target is named. pixels: files take uint8 pixels,
    because normalisation is folded into them. accuracy_drop: for the precision "auto", which finds the fastest file of
    one target that loses at most so many points of accuracy against its fp32 file. unit: of the device that the files
    are for, such as gpu; "all" are then those that have it.
    A file that cannot be made, or judged on this machine, does not keep the others from it, nor does a target that
    lacks the precision or whose packages are missing: the result has it among `unjudged`.
    Raises InputError for an unfinished run, an unknown target or precision, or one that none of the targets can do;
    where one file was asked for, also what kept it from being made or judged.
    """
    if unit is not None:
        targets = targets_for(run, targets, unit)
    if AUTO in precisions or accuracy_drop is not None:
        return export_auto(run, *auto_words(targets, precisions, accuracy_drop), pixels)
    source = Source.of(run)
    plans, unjudged = planned(source, targets, precisions)
    with Run(run, source.recipe) as held:
        try:
            figures, failed = make(source, held, plans, pixels, alone=not unjudged)
            unjudged += failed
            warnings, memorised = source.doubts(), source.memorised
        finally:
            remove(run / "scratch")
    metric, held_back = source.data.task.facts.metric, source.data.proves_on_held_back
    verified = not unjudged and all(f.verified for f in figures)
    return ExportResult(
        run,
        figures,
        verified,
        metric=metric,
        warnings=warnings,
        unjudged=unjudged,
        held_back=held_back,
        memorised=memorised,
    )


def targets_for(run: Path, targets: Sequence[str], unit: str) -> list[str]:
    """The targets for a unit. Raises InputError where one has none for it."""
    if ALL in targets:
        return targets_of(unit)
    return [on_unit(name, unit) for name in targets or [run_recipe(run).prune.target]]


def auto_words(
    targets: Sequence[str], precisions: Sequence[str], accuracy_drop: float | None
) -> tuple[str | None, float]:
    """The target and the drop for `export_auto`. Raises InputError when the words do not belong together."""
    if list(precisions) != [AUTO] or accuracy_drop is None or len(targets) > 1 or ALL in targets:
        raise InputError(
            "A precision is chosen for one target, within a drop of accuracy.",
            "Give both, and at most one --target: --precision auto --accuracy-drop 0.5",
        )
    return (targets[0] if targets else None), accuracy_drop


def planned(
    source: Source, targets: Sequence[str], precisions: Sequence[str]
) -> tuple[dict[str, list[str]], list[UnjudgedFile]]:
    """Which precisions to make for each target, and what cannot be made: precisions that one target lacks and another
    has not, and files of targets whose packages are missing.

    Wrong names are found before anything is exported; so is what leaves nothing to make.
    """
    own = source.recipe.prune
    if not targets:
        targets, precisions = [own.target], [own.precision if p == "default" else p for p in precisions]
    names = targets_of(CPU) if ALL in targets else list(dict.fromkeys(targets))
    if unknown := [p for p in precisions if p not in ("default", *(known := precision_names()))]:
        raise InputError(f"There is no precision '{unknown[0]}'.", f"Known: default, {', '.join(known)}.")
    plans: dict[str, list[str]] = {}
    lost: list[UnjudgedFile] = []
    lacking: list[InputError] = []
    for name in names:
        try:
            target = get_target(name)
        except SetupError as error:
            if len(names) == 1:
                raise
            lost += [UnjudgedFile.of(error, None, name, p) for p in dict.fromkeys(precisions)]
            continue
        for text in dict.fromkeys(precisions):
            try:
                precision = parse_precision(text, target)
            except InputError as error:
                lacking.append(error)
                lost.append(UnjudgedFile.of(error, None, name, text))
                continue
            wanted = plans.setdefault(name, [])
            wanted += [] if precision in wanted else [precision]
    if lacking and not plans:
        raise lacking[0]
    return plans, lost


def make(
    source: Source, run: Run, plans: dict[str, list[str]], pixels: bool, alone: bool = True
) -> tuple[list[ArtifactFigures], list[UnjudgedFile]]:
    """Exports and proves; two targets at a time, each in processes of its own.

    alone: these are all files that were asked for. Then what keeps the only one from being made or judged is raised.
    """
    writing = threading.Lock()
    source.reference  # noqa: B018  (made once, before the threads share it)
    source.calibration_file()
    files = sum(len(p) for p in plans.values())

    with progress.task("export and compare", 2 * files) as advance, ThreadPoolExecutor(_PROCESSES) as pool:

        def step() -> None:
            with writing:
                advance(1)

        def one(exporter: Exporter, name: str, job: ExportJob) -> ArtifactFigures | UnjudgedFile:
            try:
                artifact = exporter.export(job)
                step()
                with writing:
                    source.record(artifact, pixels)
                    run.add_artifact(job.path)
                return judged(source, exporter, job, source.judge(artifact, pixels))
            except WdpError as error:
                if alone and files == 1:
                    raise
                return UnjudgedFile.of(error, job.path, name, job.precision)
            finally:
                step()

        def work(name: str) -> list[ArtifactFigures | UnjudgedFile]:
            suffix = get_target(name).suffix
            paths = {p: artifact_path(run.path, suffix, p, pixels) for p in plans[name]}
            with Exporter(name, source.folder) as exporter:
                return [one(exporter, name, source.job(path, p, pixels)) for p, path in paths.items()]

        found = [pool.submit(work, name) for name in plans]
        outcomes = [outcome for future in found for outcome in future.result()]
    figures = [o for o in outcomes if isinstance(o, ArtifactFigures)]
    return figures, [o for o in outcomes if isinstance(o, UnjudgedFile)]


def judged(source: Source, exporter: Exporter, job: ExportJob, figures: ArtifactFigures) -> ArtifactFigures:
    """With the place where it went wrong, if it did."""
    if figures.verified:
        return figures
    return replace(figures, broke_at=source.where_it_broke(exporter, figures.target, job))
