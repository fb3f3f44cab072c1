"""Stages after the cut: compensation, recovery, proof and the final figures."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.data.loading import eval_batches
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.devices.processor import this_processor
from wdp_edge.drops import Drops
from wdp_edge.files import inner_path
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.recovery import RecoveryPlan, recover
from wdp_edge.models import vit
from wdp_edge.models.files import load, save
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.parallel import world
from wdp_edge.parity import compare
from wdp_edge.pipeline.context import Context
from wdp_edge.pipeline.dense_outputs import dense_outputs
from wdp_edge.pipeline.proof import SIMULATED_IMAGES, simulated_error, tolerance_of, within
from wdp_edge.pipeline.sidecar import note_proofs
from wdp_edge.pipeline.streams import train_stream
from wdp_edge.results import ProcessorProof
from wdp_edge.run import Run
from wdp_edge.shrink.compensation import compensate
from wdp_edge.stages import Recovered, Verified
from wdp_edge.target import INTEGER, Artifact
from wdp_edge.task import defined


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

    return load(inner_path(run.path, run.stage("compensate", Saved, compute).folder))


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


@torch.no_grad()
def verify_stage(context: Context, run: Run, kept: Kept, folder: Path, artifact: Artifact) -> Verified:
    """masked = shrunk, and shrunk = exported, on held-back images."""

    def compute() -> Verified:
        images, agreement = context.proof_images[0], context.task.agreement
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
        precision = artifact.precision
        shipped = compare(f"shrunk = exported ({precision.value})", reference, exported, agreement)
        if (scheme := scheme_of(context.tools.target, precision)) is not None:
            calibration = context.prepare(context.calibration[:SIMULATED_IMAGES])
            simulated = simulated_error(model, scheme, context.prepare(images), calibration)
            shipped = replace(shipped, simulated_error=simulated)
        if precision in INTEGER:
            close = within(shipped, tolerance_of(context.recipe.verify, precision))
            note_proofs(artifact.path, [ProcessorProof(this_processor(), close, len(images))])
        return Verified([compare("masked = shrunk", masked, shrunk, agreement), shipped])

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
        defined(after, context.task.facts.metric, str(context.val.root))
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
