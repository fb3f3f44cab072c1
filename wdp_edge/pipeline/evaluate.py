"""Accuracy of a file, through its own runtime."""

from __future__ import annotations

from pathlib import Path

import torch

from wdp_edge.data.listed import images_at
from wdp_edge.data.loading import eval_batches
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.errors import InputError
from wdp_edge.parity import accuracy
from wdp_edge.pipeline.sidecar import read_sidecar
from wdp_edge.results import EvaluateResult


def evaluate(path: Path, val: Path | None = None) -> EvaluateResult:
    """Top-1 accuracy of an artifact on class folders of images or a list of them; `val`: those of its run unless given.

    Raises InputError when the file is no sound artifact or the folders hold other classes.
    """
    sidecar = read_sidecar(path)
    folder = images_at(val or sidecar.val)
    if list(folder.classes) != sidecar.classes:
        raise InputError(
            f"{val or sidecar.val} holds other classes than {path} was trained on.",
            "Give the same class folders with --val.",
        )
    batches = eval_batches(folder, range(len(folder)), sidecar.preprocessing, 32, 1, "read images")
    logits = run_artifact(
        sidecar.target,
        path,
        (sidecar.input_of(images) for images, _ in batches),
        len(folder),
        f"{path.name} on {len(folder)} images",
    )
    labels = torch.tensor(folder.labels)
    return EvaluateResult(path, sidecar.target, len(folder), accuracy(logits, labels))
