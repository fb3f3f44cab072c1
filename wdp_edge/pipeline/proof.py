"""Artifacts held against the model they were made from, on real images; and where one goes wrong, if it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.data.preprocess import Preprocessing, normalise
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.models import vit
from wdp_edge.models.prefix import Prefix
from wdp_edge.parity import compare
from wdp_edge.recipe import Tolerance, VerifyRecipe
from wdp_edge.results import ArtifactFigures, Parity
from wdp_edge.target import Artifact, Precision
from wdp_edge.task import Task, get_task

BISECT_IMAGES = 16
_BATCH = 32
_KINDS = {
    Precision.FP32: "fp32",
    Precision.FP16: "fp16",
    Precision.INT4_WEIGHT: "low_bit",
    Precision.PALETTE4: "low_bit",
    Precision.PALETTE6: "low_bit",
}


def tolerance_of(recipe: VerifyRecipe, precision: Precision) -> Tolerance:
    """How far an artifact of this precision may be from its model."""
    tolerance: Tolerance = getattr(recipe, _KINDS.get(precision, "int8"))
    return tolerance


def within(parity: Parity, tolerance: Tolerance) -> bool:
    """False also where a figure is no number."""
    return parity.agreement >= tolerance.agreement and parity.cosine_centred >= tolerance.cosine


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
        """The model's own word on these images."""
        return cls(images, labels, vit.logits(model, normalise(images, preprocessing)), preprocessing, task)

    def metric(self, outputs: Tensor) -> float:
        """The task's metric of outputs for the images: [n, K]."""
        return next(iter(get_task(self.task).metrics(outputs, self.labels, self.dense).values()))

    def inputs(self, pixels: bool, count: int | None = None) -> Iterator[Tensor]:
        """Batches as a file takes them: uint8 pixels, or normalised float32."""
        for part in self.images[:count].split(_BATCH):
            yield part if pixels else normalise(part, self.preprocessing)


def prove(artifact: Artifact, reference: Reference, tolerance: Tolerance, pixels: bool) -> ArtifactFigures:
    """Runs the artifact through its own runtime on the reference's images.

    Raises InputError when the file is not sound, SetupError when the runtime crashes.
    """
    title = f"compare {artifact.path.name} with the model"
    count = len(reference.images)
    got = run_artifact(artifact.target, artifact.path, reference.inputs(pixels), count, title, processes=1)
    task: Task = get_task(reference.task)
    parity = compare(f"shrunk = exported ({artifact.precision.value})", reference.outputs, got, task.agreement)
    return ArtifactFigures(
        path=artifact.path,
        target=artifact.target,
        precision=artifact.precision.value,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        parity=parity,
        accuracy=reference.metric(got),
        verified=within(parity, tolerance),
    )


def first_broken(model: Any, reference: Reference, cosine: float, run_prefix: Callable[[int], Tensor]) -> str:
    """The first part of the model whose exported output is further from the model's than `cosine` allows.

    run_prefix: exports and runs the first k sub-layers on BISECT_IMAGES of the images: [n, N, D]. Sub-layers are
    bisected, for errors grow along the residual stream. Outputs are compared without their mean over channels, which
    lowering is free to change, and without their mean over the images, which hides errors.
    """
    images = normalise(reference.images[:BISECT_IMAGES], reference.preprocessing)

    def broken(sublayers: int) -> bool:
        expected, got = (flat(x) for x in (stream(model, images, sublayers), run_prefix(sublayers)))
        return not compare("prefix", expected, got).cosine_centred >= cosine

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


def artifact_path(run: Path, target_suffix: str, precision: Precision, pixels: bool) -> Path:
    """Where an export of a run's model goes."""
    return run / "artifacts" / f"model-{precision.value}{'-pixels' if pixels else ''}{target_suffix}"
