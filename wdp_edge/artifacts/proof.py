"""Artifacts compared with the model they were made from, on real images; and where one goes wrong, if it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from wdp_edge.artifacts.parity import EXACT, compare, spread_error
from wdp_edge.config.recipe import ExactTolerance, SimulatedTolerance, Tolerance, VerifyRecipe
from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.devices.evaluate import Ran, run_file
from wdp_edge.models import vit
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import Artifact, Narrow, target_class
from wdp_edge.protocols.task import get_task
from wdp_edge.runs.results import ArtifactFigures, Parity, ProcessorProof

if TYPE_CHECKING:
    from wdp_edge.calibration.fake_quant import Scheme

BISECT_IMAGES = 16
# Root mean squares over 64 images are steady to some per cent, and their simulation costs little beside the proof.
SIMULATED_IMAGES = 64
_BATCH = 32
HALF, ROUNDED = "16-bit floats", "on the CPU, every result rounded to float16"


def tolerance_of(recipe: VerifyRecipe, precision: Precision) -> Tolerance:
    """How far an artifact of this precision may be from its model."""
    tolerance: Tolerance = getattr(recipe, precision.family.value)
    return tolerance


def within(parity: Parity, tolerance: Tolerance) -> bool:
    """Whether an artifact counts as the same model. False also when a figure is NaN.

    Figures that earlier versions did not take are not asked for.
    """
    agreement = parity.agreement
    if isinstance(tolerance, ExactTolerance) and parity.clear_agreement is not None:
        agreement = parity.clear_agreement
    return close(parity, tolerance) and agreement >= tolerance.agreement


def close(parity: Parity, tolerance: Tolerance) -> bool:
    """`within`, for outputs that name nothing on which to agree, such as those of a part of the model."""
    near = parity.cosine_centred >= tolerance.cosine
    if isinstance(tolerance, ExactTolerance) and parity.relative_error is not None:
        near = near and parity.relative_error <= tolerance.error
    if isinstance(tolerance, SimulatedTolerance) and parity.simulated_error is not None:
        allowed = tolerance.factor * parity.simulated_error + EXACT
        near = near and parity.spread_error is not None and parity.spread_error <= allowed
    return near


@dataclass(frozen=True)
class Reference:
    """Images, labels and what the model says of them.

    images: [n, 3, H, W] uint8; labels: as `labels_of` gives them; outputs: [n, K] float32, in PyTorch.
    task: its name. dense: the dense model's outputs, [n, K], where the task's metric compares with them.
    """

    images: Tensor
    labels: Tensor
    outputs: Tensor
    preprocessing: Preprocessing
    task: str = "classify"
    dense: Tensor | None = None

    @classmethod
    def of(
        cls, model: nn.Module, images: Tensor, labels: Tensor, preprocessing: Preprocessing, task: str = "classify"
    ) -> Reference:
        """The model's own outputs for these images."""
        return cls(images, labels, vit.logits(model, normalise(images, preprocessing)), preprocessing, task)

    def metric(self, outputs: Tensor) -> float | None:
        """The task's metric of outputs for the images, [n, K]; None where none of these counts."""
        value = next(iter(get_task(self.task).metrics(outputs, self.labels, self.dense).values()))
        return None if math.isnan(value) else value

    def inputs(self, pixels: bool, count: int | None = None) -> Iterator[Tensor]:
        """Batches as a file takes them: uint8 pixels, or normalised float32."""
        for part in self.images[:count].split(_BATCH):
            yield part if pixels else normalise(part, self.preprocessing)


def prove(
    artifact: Artifact, reference: Reference, tolerance: Tolerance, pixels: bool, simulated: float | None = None
) -> ArtifactFigures:
    """What `run_proof` found, as figures of the artifact. Raises as it does."""
    proof = run_proof(artifact, reference, tolerance, pixels, simulated)
    return ArtifactFigures(
        path=artifact.path,
        target=artifact.target,
        precision=artifact.precision,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        parity=proof.parity,
        accuracy=reference.metric(proof.outputs),
        verified=within(proof.parity, tolerance),
        proven_on=proof.proven_on,
    )


@dataclass(frozen=True)
class Proof:
    """outputs: the file's, [n, K]. proven_on: what computed them, where that is not the CPU."""

    parity: Parity
    outputs: Tensor
    proven_on: list[ProcessorProof]


def run_proof(
    artifact: Artifact, reference: Reference, tolerance: Tolerance, pixels: bool, simulated: float | None = None
) -> Proof:
    """Runs the artifact through its own runtime on the reference's images.

    simulated: from `simulated_error`. Files for a unit that computes in 16-bit floats are also run with all results
    rounded to these, and both have to be close; the parity is that of the worse.
    Raises InputError when the file is not sound, SetupError when the runtime crashes.
    """
    title = f"compare {artifact.path.name} with the model"
    count = len(reference.images)
    agreement = get_task(reference.task).agreement

    def run(narrow: bool) -> tuple[Ran, Parity]:
        images = reference.inputs(pixels)
        ran = run_file(artifact.target, artifact.path, images, count, title, processes=1, narrow=narrow)
        parity = compare(f"shrunk = exported ({artifact.precision})", reference.outputs, ran.outputs, agreement)
        return ran, replace(parity, simulated_error=simulated)

    ran, parity = run(narrow=False)
    proofs = [ProcessorProof(ran.on, within(parity, tolerance), count)] if ran.on else []
    if computes_narrow(artifact):
        _, rounded = run(narrow=True)
        proofs.append(ProcessorProof(HALF, within(rounded, tolerance), count, ROUNDED))
        parity = min(parity, rounded, key=lambda p: (within(p, tolerance), p.cosine_centred))
    return Proof(parity, ran.outputs, proofs)


def computes_narrow(artifact: Artifact) -> bool:
    """Whether the file's unit computes it in 16-bit floats: an fp32 file asks for 32."""
    return issubclass(target_class(artifact.target), Narrow) and artifact.precision != Precision.FP32


@torch.no_grad()
def simulated_error(model: Any, scheme: Scheme, images: Tensor, calibration: Tensor) -> float:
    """How far the scheme alone moves the model's outputs, as `spread_error` measures it.

    At most SIMULATED_IMAGES of the images are read. images, calibration: [n, 3, H, W] normalised float32.
    """
    from wdp_edge.calibration.simulation import simulate

    some = images[spread(len(images), SIMULATED_IMAGES)]
    got = simulate(model, scheme, some, calibration[:SIMULATED_IMAGES])
    return spread_error(vit.logits(model, some), got)


def first_broken(
    model: Any, reference: Reference, sound: Callable[[Parity], bool], run_prefix: Callable[[int], Tensor]
) -> str:
    """The first part of the model whose exported output is further from the model's than it should.

    sound: whether a part's parity is that of a good file.
    run_prefix: exports and runs the first k sub-layers on BISECT_IMAGES of the images: [n, N, D]. Sub-layers are
    bisected, for errors grow along the residual stream. Outputs are compared without their mean over channels, which
    lowering is free to change, and without their mean over the images, which hides errors.
    """
    images = normalise(reference.images[:BISECT_IMAGES], reference.preprocessing)

    def broken(sublayers: int) -> bool:
        expected, got = (flat(x) for x in (stream(model, images, sublayers), run_prefix(sublayers)))
        return not sound(compare("prefix", expected, got))

    blocks = len(vit.blocks_of(model))
    low, high = 0, 2 * blocks + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if broken(middle) else (middle + 1, high)
    return part_name(low, blocks)


def part_name(sublayers: int, blocks: int) -> str:
    """What the last of this many sub-layers is called."""
    if sublayers == 0:
        return "patch_embed"
    if sublayers > 2 * blocks:
        return "norm and head"
    return f"blocks.{(sublayers - 1) // 2}.{'attn' if sublayers % 2 else 'mlp'}"


def flat(tokens: Tensor) -> Tensor:
    """tokens: [n, ..., D] -> [n, · · · D], without each token's mean over channels."""
    return (tokens - tokens.mean(-1, keepdim=True)).flatten(1)


@torch.no_grad()
def stream(model: Any, images: Tensor, sublayers: int) -> Tensor:
    """images: [n, 3, H, W] -> the residual stream after this many sub-layers: [n, N, D]."""
    return Prefix(model, sublayers)(images)


def spread(count: int, wanted: int) -> Tensor:
    """`wanted` places spread evenly over `count`: images in the order of their classes come from all of them."""
    return torch.linspace(0, count - 1, min(wanted, count)).round().long()


def spread_pairs(labels: Tensor, wanted: int) -> Tensor:
    """The same for ascending labels, [n], in twos of one label: a metric that compares images of a class needs them."""
    if wanted >= len(labels):
        return torch.arange(len(labels))
    firsts, place = [], 0
    while place < len(labels) - 1:
        alike = bool(labels[place] == labels[place + 1])
        firsts += [place] * alike
        place += 1 + alike
    if not firsts:
        return spread(len(labels), wanted)
    chosen = torch.tensor(firsts)[spread(len(firsts), max(1, wanted // 2))]
    return torch.stack([chosen, chosen + 1], 1).flatten()


def artifact_path(run: Path, target_suffix: str, precision: str, pixels: bool) -> Path:
    """Where an export of a run's model goes."""
    return run / "artifacts" / f"model-{precision}{'-pixels' if pixels else ''}{target_suffix}"
