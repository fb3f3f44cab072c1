"""Accuracy of a file, through its own runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wdp_edge.artifacts.sidecar import Sidecar, read_sidecar
from wdp_edge.data.folder import ImageFolder, check_counted
from wdp_edge.data.listed import images_at
from wdp_edge.data.loading import eval_batches
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Task, defined, facts_of, get_task, labelled_twin
from wdp_edge.runs.places import ARTIFACTS, run_around, run_recipe
from wdp_edge.runs.results import EvaluateResult
from wdp_edge.runs.run import recorded_artifacts
from wdp_edge.runs.stages import RECIPE

if TYPE_CHECKING:
    from torch import Tensor


def evaluate(path: Path, val: Path | None = None) -> EvaluateResult:
    """The metric of an artifact's task on images or a list of them; `val`: those of its run unless given.

    A classifier that was pruned without labels has an accuracy too, on images that have some.
    Raises InputError when the file is no sound artifact, the folders hold other classes, the metric counts none of the
    images, or it compares with the dense model, which a file alone does not bring along.
    """
    sidecar = read_sidecar(path)
    facts = facts_of(sidecar.task)
    if facts.relative and val is not None and (twin := labelled_twin(facts.name)):
        facts = facts_of(twin)
    if facts.relative:
        labels = ", or name labelled images with --val" if facts.of_answers else ""
        raise InputError(
            f"{path} is for the task '{facts.name}': its {facts.metric} is with the dense model's outputs.",
            f"`wdp-edge verify` compares them, and so does `wdp-edge check` with an accuracy_drop{labels}.",
        )
    place = val or own_images(path, sidecar)
    folder = images_at(place, facts.labels).with_classes(tuple(sidecar.classes))
    if facts.name != sidecar.task and list(folder.classes) != sidecar.classes:
        raise InputError(
            f"{path} was made without labels and knows its {len(sidecar.classes)} classes as {sidecar.classes[0]}, "
            f"{sidecar.classes[1]}, …; {place} names others.",
            "Give a .csv file with the columns path and label, whose labels are class numbers from 0.",
        )
    if facts.named_classes and list(folder.classes) != sidecar.classes:
        raise InputError(
            f"{place} holds other classes than {path} was trained on.",
            "Name images of the same classes with --val.",
        )
    check_counted(folder, facts)
    return judge_file(path, folder, facts.name)


def own_images(path: Path, sidecar: Sidecar) -> Path:
    """The validation images of the run that an artifact lies in, or else those where it was made.

    Raises InputError when they are gone, and for a run whose manifest is damaged.
    """
    place, run = sidecar.val, run_around(path)
    if run is not None and (run / RECIPE).exists():
        listed = recorded_artifacts(run).get(f"{ARTIFACTS}/{path.name}", {})
        if listed.get("sha256") == sidecar.sha256:
            place = Path(run_recipe(run).data.val)
    if not place.exists():
        raise InputError(
            f"{place} does not exist: the validation images of {path} were there.",
            "Put them back.",
            {"--val": "Put them back, or name them with --val."},
        )
    return place


def judge_file(path: Path, folder: ImageFolder, task: str = "") -> EvaluateResult:
    """An artifact on all images of a folder. task: whose metric; that of the artifact unless given."""
    outputs, labels = outputs_of(path, folder)
    sidecar = read_sidecar(path)
    own: Task = get_task(task or sidecar.task)
    metrics = own.metrics(outputs, labels, None)
    value = defined(metrics.pop(own.facts.metric), own.facts.metric, str(folder.root))
    return EvaluateResult(path, sidecar.target, len(folder), value, own.facts.metric, metrics or None)


def outputs_of(path: Path, folder: ImageFolder) -> tuple[Tensor, Tensor]:
    """An artifact's outputs for all images of a folder, and their labels."""
    sidecar = read_sidecar(path)
    labels: list[Tensor] = []

    def inputs() -> Iterator[Tensor]:
        for images, known in eval_batches(folder, range(len(folder)), sidecar.preprocessing, 32, 1, "read images"):
            labels.append(known)
            yield sidecar.input_of(images)

    title = f"{path.name} on {len(folder)} images"
    outputs = run_artifact(sidecar.target, path, inputs(), len(folder), title)
    return outputs, torch.cat(labels)
