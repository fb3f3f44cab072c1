"""Stages after the cut: compensation, recovery, tightening, export and the final figures."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wdp_edge import progress
from wdp_edge.cost.table import LatencyTable
from wdp_edge.data.loading import eval_batches
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.drops import Drops
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.recovery import RecoveryPlan, recover
from wdp_edge.models import vit
from wdp_edge.models.files import load, read_spec, save
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.parallel import world
from wdp_edge.parity import compare
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.dense_outputs import dense_outputs
from wdp_edge.pipeline.proof import spread
from wdp_edge.pipeline.selection import allowed
from wdp_edge.pipeline.sidecar import write_sidecar
from wdp_edge.pipeline.streams import train_stream
from wdp_edge.pipeline.timing import against_dense, export_model, used_share
from wdp_edge.run import Run
from wdp_edge.select.candidates import saliency_ranking, solve
from wdp_edge.shrink.compensation import compensate
from wdp_edge.shrink.saliency import saliency
from wdp_edge.stages import Measured, Recovered, Verified
from wdp_edge.target import Artifact

TIGHTEN_SHARE = 0.15


@dataclass(frozen=True)
class Saved:
    """A model that a stage left in a folder of the run, relative to it; "" where it left none."""

    folder: str
    seconds: float


@dataclass(frozen=True)
class Final:
    """Stage `final`: the only use of the validation images. Accuracy: the task's metric. also: its other figures.

    drops: what each class loses; None in records of before.
    """

    dense_accuracy: float
    shipped_accuracy: float
    agreement: float
    images: int
    dense_also: dict[str, float] = field(default_factory=dict)
    shipped_also: dict[str, float] = field(default_factory=dict)
    drops: Drops | None = None


def compensate_stage(context: Context, run: Run, kept: Kept) -> nn.Module:
    """The cut model, refitted in closed form."""

    def compute() -> Saved:
        start = time.monotonic()
        small = cut(context.source, kept)
        compensate(context.dense, small, context.refit_images, context.prepare, run.path / "scratch")
        save(small, context.tools.spec, run.path / "stages" / "compensated")
        return Saved("stages/compensated", time.monotonic() - start)

    return load(run.path / run.stage("compensate", Saved, compute).folder)


def recover_stage(context: Context, run: Run, small: nn.Module, steps: int, name: str = "recover") -> Recovered:
    """The fine-tuned model in `model/`, and its curve. With no steps the compensated model is what ships."""
    folder = run.path / ("model" if name == "recover" else f"stages/{name}")

    def compute() -> Recovered:
        if steps == 0:
            ship(small)
            return Recovered(0.0, 0, [])

        def judge(model: nn.Module) -> float:
            return context.holdout_metric(context.quick_outputs(model, context.holdout[0]))

        options, compute = context.recipe.prune.recover, context.recipe.prune.compute
        plan = RecoveryPlan(steps, judge, task=context.recipe.model.task, compute=compute)
        stream = train_stream(context, options.batch_size, first=1 if name == "recover" else 2)
        checkpoint = run.path / "stages" / f"{name}.checkpoint"
        model, recovered = recover(context.dense, small, plan, options, stream, checkpoint)
        ship(model)
        return recovered

    def ship(model: nn.Module) -> None:
        if world().leads:
            save(model, context.tools.spec, folder)

    return run.stage(name, Recovered, compute, together=True)


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
    context: Context, run: Run, dense: Artifact, shipped: Artifact, dense_ms: float, number: int
) -> Measured:
    """The artifact's time against the dense one's, which is about dense_ms; twice as many rounds as while choosing."""
    name = "measure" if number == 0 else f"measure-{number}"
    return run.stage(name, Measured, lambda: against_dense(context, dense.path, shipped.path, dense_ms, times=2))


def tighten(context: Context, run: Run, table: LatencyTable, folder: Path, used: float, number: int) -> Path:
    """A slightly smaller model from the recovered one, for a file that missed the budget by a little.

    The recovered model takes the dense one's place: saliency, knapsack and compensation cut what is too much, and a
    short recovery follows. Returns the folder of the new model; `folder` when no structure is small enough.
    """

    def compute() -> Saved:
        start = time.monotonic()
        model: Any = load(folder)
        structure = vit.structure_of(model)
        limit = table.predict(structure) * context.recipe.prune.select.margin / used
        images = context.calibration[:512]
        scratch, seed = run.path / "scratch", context.recipe.prune.seed
        ranking = saliency_ranking(saliency(model, images, context.prepare, seed, scratch, context.recipe.model.task))
        kept = solve(ranking, structure, structure.depth, table, limit, allowed(context, drop=False))
        if kept is None:
            return Saved("", time.monotonic() - start)
        progress.say(f"the file takes {used:.1%} of the budget: cutting a little more")
        small = cut(model, kept)
        compensate(model, small, context.refit_images, context.prepare, scratch)
        save(small, context.tools.spec, run.path / "stages" / f"smaller-{number}")
        return Saved(f"stages/smaller-{number}", time.monotonic() - start)

    smaller = run.stage(f"smaller-{number}", Saved, compute)
    if not smaller.folder:
        return folder
    small = load(run.path / smaller.folder)
    steps = round(TIGHTEN_SHARE * context.images_budget()) // context.recipe.prune.recover.batch_size
    recover_stage(context, run, small, steps, f"tighten-{number}")
    return run.path / f"stages/tighten-{number}"


def close_loop(context: Context, run: Run, table: LatencyTable, dense: Artifact) -> tuple[Path, Artifact, Measured]:
    """Exports and times the recovered model; cuts more while the file misses the budget, in at most three rounds."""
    folder = run.path / "model"
    for number in range(context.recipe.prune.select.rounds):
        artifact = export_stage(context, run, folder, number)
        measured = measure_stage(context, run, dense, artifact, table.dense_ms, number)
        used = used_share(measured, context.budget)
        progress.say(f"the file takes {used:.1%} of the budget ({measured.shipped.p50:.3g} ms)")
        if used <= 1.0 or number == context.recipe.prune.select.rounds - 1:
            break
        next_folder = run.path / f"stages/tighten-{number}"
        if not run.done(f"tighten-{number}"):
            next_folder = tighten(context, run, table, folder, used, number)
        if next_folder == folder:
            break
        folder = next_folder
    if folder != run.path / "model" and world().leads:
        # `model/` is what ships. The stages before are done, so a killed run does not read it again.
        save(load(folder), context.tools.spec, run.path / "model")
    return run.path / "model", artifact, measured


@torch.no_grad()
def verify_stage(context: Context, run: Run, kept: Kept, folder: Path, artifact: Artifact) -> Verified:
    """masked = shrunk, and shrunk = exported, on held-back images."""

    def compute() -> Verified:
        every, agreement = context.holdout[0], context.task.agreement
        images = every[spread(len(every), context.recipe.verify.images)]
        masked, shrunk = masked_and_cut(context, kept, images)
        model = load(folder)
        reference = vit.logits(model, context.prepare(images))
        exported = run_artifact(
            context.tools.target.name,
            artifact.path,
            (context.prepare(part) for part in images.split(32)),
            len(images),
            "compare the file with the model",
        )
        return Verified(
            [
                compare("masked = shrunk", masked, shrunk, agreement),
                compare(f"shrunk = exported ({artifact.precision.value})", reference, exported, agreement),
            ]
        )

    return run.stage("verify", Verified, compute)


def masked_and_cut(context: Context, kept: Kept, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of the dense model under masks (up to the exit), and of the cut one: [n, K] each."""
    small = cut(context.source, kept).eval()
    blocks = context.structure.blocks[: len(kept.heads)]
    shallow = cut(context.source, Kept.first(replace(context.structure, blocks=blocks))).eval()
    prepared = context.prepare(images)
    with MaskedForward(shallow) as masked:
        masked.heads = [ones_at(k, b.heads) for k, b in zip(kept.heads, blocks, strict=True)]
        masked.hidden = [ones_at(k, b.hidden) for k, b in zip(kept.hidden, blocks, strict=True)]
        if kept.head_channels is not None:
            masked.head_channels = [ones_at(k, b.head_dim) for k, b in zip(kept.head_channels, blocks, strict=True)]
        expected = vit.logits(shallow, prepared)
    return expected, vit.logits(small, prepared)


def ones_at(kept: tuple[int, ...], units: int) -> torch.Tensor:
    mask = torch.zeros(units)
    mask[list(kept)] = 1.0
    return mask


def final_stage(context: Context, run: Run, artifact: Artifact) -> Final:
    """The metric of the dense model (PyTorch, float32) and of the shipped file (its own runtime) on all validation
    images."""

    def compute() -> Final:
        dense, labels = dense_outputs(context)
        workers = context.recipe.data.workers
        images = replace(context.val, masks=())
        batches = eval_batches(images, range(len(images)), context.preprocessing, 32, workers, "read images")
        shipped = run_artifact(
            context.tools.target.name,
            artifact.path,
            (context.prepare(part) for part, _ in batches),
            len(images),
            "shipped file on validation images",
        )
        before, before_also = split_metric(context.task.metrics(dense, labels, dense))
        after, after_also = split_metric(context.task.metrics(shipped, labels, dense))
        agreement = context.task.agreement(dense, shipped)
        drops = context.task.drops(dense, shipped, labels, context.names_of_parts)
        return Final(before, after, agreement, len(labels), before_also, after_also, drops)

    return run.stage("final", Final, compute)


def split_metric(metrics: dict[str, float]) -> tuple[float, dict[str, float]]:
    """A task's metric and its other figures."""
    name, value = next(iter(metrics.items()))
    return value, {other: metrics[other] for other in metrics if other != name}


def clear_scratch(run: Run) -> None:
    """Removes what only an unfinished run needs."""
    shutil.rmtree(run.path / "scratch", ignore_errors=True)
    for checkpoint in (run.path / "stages").glob("*.checkpoint"):
        checkpoint.unlink()
