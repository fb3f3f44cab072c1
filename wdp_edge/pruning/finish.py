"""After the structure is chosen: refit, recovery, proof and the final figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wdp_edge.artifacts.parity import compare
from wdp_edge.artifacts.proof import SIMULATED_IMAGES, Reference, run_proof, simulated_error, tolerance_of, within
from wdp_edge.artifacts.sidecar import note_proofs
from wdp_edge.calibration.simulation import scheme_of
from wdp_edge.config.recipe import CompensateRecipe, PruneRecipe, VerifyRecipe
from wdp_edge.data.loading import eval_batches
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.devices.processor import this_processor
from wdp_edge.io.files import inner_path
from wdp_edge.learn.masked import MaskedForward
from wdp_edge.learn.recovery import RecoveryPlan, Rounding, recover
from wdp_edge.models import vit
from wdp_edge.models.files import load, save
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.target import Artifact
from wdp_edge.protocols.task import defined
from wdp_edge.pruning.data import Data
from wdp_edge.pruning.dense_outputs import dense_outputs
from wdp_edge.pruning.inputs import DenseModel, HeldBack
from wdp_edge.pruning.toolkit import Toolkit
from wdp_edge.runs.drops import Drops
from wdp_edge.runs.results import ProcessorProof
from wdp_edge.runs.stages import Recovered, Verified
from wdp_edge.shrink.compensation import compensate
from wdp_edge.workers.parallel import world


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


def compensated_model(
    model: DenseModel, data: Data, source: nn.Module, kept: Kept, options: CompensateRecipe, run: Path
) -> Saved:
    """The model cut from `source`, refitted in closed form against the dense one."""
    start = time.monotonic()
    small, images = cut(source, kept), data.refit_images(model.module, options)
    compensate(model.module, small, images, data.prepare, run / "scratch")
    save(small, model.spec, run / "stages" / "compensated")
    return Saved("stages/compensated", time.monotonic() - start)


def recovered_model(
    held_back: HeldBack,
    prune: PruneRecipe,
    rounding: Callable[[], Rounding | None],
    run: Path,
    small: str,
    steps: int,
    name: str,
) -> Recovered:
    """The fine-tuned model in `model/`, or of another stage than "recover" in that stage's folder; and its curve.

    rounding: what the steps simulate. small: folder of the model to begin with, in the run. With no steps it is what
    ships. name: of the stage.
    """
    dense, data, first = held_back.model, held_back.data, name == "recover"
    model, recovered = load(inner_path(run, small)), Recovered(0.0, 0, [])
    if steps:

        def judge(model: nn.Module) -> float:
            return held_back.metric(held_back.outputs(model))

        plan = RecoveryPlan(steps, judge, task=data.task.facts.name, compute=prune.compute, rounding=rounding())
        stream = data.stream(prune.recover.batch_size, first=1 if first else 2)
        checkpoint = run / "stages" / f"{name}.checkpoint"
        model, recovered = recover(dense.module, model, plan, prune.recover, stream, checkpoint)
    if world().leads:
        save(model, dense.spec, run / ("model" if first else f"stages/{name}"))
    return replace(recovered, metric=data.task.facts.metric)


@torch.no_grad()
def verified_file(
    tools: Toolkit, data: Data, options: VerifyRecipe, source: nn.Module, kept: Kept, folder: Path, artifact: Artifact
) -> Verified:
    """masked = shrunk, and shrunk = exported, on real images. source: the model that was cut; folder: of what ships."""
    (images, labels), agreement = data.proof_images, data.task.agreement
    masked, shrunk = masked_and_cut(source, kept, data.prepare(images))
    model: Any = load(folder)
    reference = Reference.of(model, images, labels, data.preprocessing, data.task.facts.name)
    simulated = None
    if (scheme := scheme_of(tools.target, tools.precision)) is not None:
        calibration = data.prepare(data.calibration[:SIMULATED_IMAGES])
        simulated = simulated_error(model, scheme, data.prepare(images), calibration)
    tolerance = tolerance_of(options, tools.precision)
    proof = run_proof(artifact, reference, tolerance, pixels=False, simulated=simulated)
    proofs = list(proof.proven_on)
    if tools.precision.integer:
        proofs.append(ProcessorProof(this_processor(), within(proof.parity, tolerance), len(images)))
    if proofs:
        note_proofs(artifact.path, proofs)
    return Verified([compare("masked = shrunk", masked, shrunk, agreement), proof.parity])


def masked_and_cut(source: nn.Module, kept: Kept, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs of a model under masks (up to the exit), and of the one cut from it: [n, K] each.

    images: [n, 3, H, W] normalised float32.
    """
    whole = vit.structure_of(source)
    blocks = whole.blocks[: len(kept.heads)]
    small = cut(source, kept).eval()
    shallow = cut(source, Kept.first(replace(whole, blocks=blocks))).eval()
    with MaskedForward(shallow) as masked:
        masked.heads = [ones_at(k, b.heads) for k, b in zip(kept.heads, blocks, strict=True)]
        masked.hidden = [ones_at(k, b.hidden) for k, b in zip(kept.hidden, blocks, strict=True)]
        if kept.head_channels is not None:
            masked.head_channels = [ones_at(k, b.head_dim) for k, b in zip(kept.head_channels, blocks, strict=True)]
        expected = vit.logits(shallow, images)
    return expected, vit.logits(small, images)


def ones_at(kept: tuple[int, ...], units: int) -> torch.Tensor:
    mask = torch.zeros(units)
    mask[list(kept)] = 1.0
    return mask


def final_figures(tools: Toolkit, model: DenseModel, data: Data, artifact: Artifact) -> Final:
    """The metric of the dense model (PyTorch, float32) and of the shipped file (its own runtime) on all validation
    images."""
    dense, labels = dense_outputs(model, data)
    images = replace(data.val, masks=())
    count = len(images)
    batches = eval_batches(images, range(count), data.preprocessing, 32, data.options.workers, "read images")
    inputs, title = (data.prepare(part) for part, _ in batches), "shipped file on validation images"
    shipped = run_artifact(tools.target.name, artifact.path, inputs, count, title)
    task = data.final_task
    before, before_also = split_metric(task.metrics(dense, labels, dense))
    after, after_also = split_metric(task.metrics(shipped, labels, dense))
    defined(after, task.facts.metric, str(data.val.root))
    drops = task.drops(dense, shipped, labels, data.names_of_parts)
    agreement = task.agreement(dense, shipped)
    return Final(before, after, agreement, len(labels), before_also, after_also, drops)


def split_metric(metrics: dict[str, float]) -> tuple[float, dict[str, float]]:
    """A task's metric and its other figures."""
    name, value = next(iter(metrics.items()))
    return value, {other: metrics[other] for other in metrics if other != name}
