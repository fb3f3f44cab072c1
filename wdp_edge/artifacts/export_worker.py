"""`python -m wdp_edge.artifacts.export_worker`: exports a saved model, and takes the toolkit's leaks along."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import nn

from wdp_edge.artifacts.export_job import ExportJob
from wdp_edge.data.preprocess import normalise
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import from_plain
from wdp_edge.models.files import load
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.vit import Prefix
from wdp_edge.protocols.target import Artifact, ExportOptions, Target, get_target, parse_precision
from wdp_edge.workers.messages import read_message, serve, write_message

THREADS = 1


def main() -> None:
    serve(handle)


def handle(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    """request: target, and the folder of the saved model. Each message is an ExportJob; its artifact goes back."""
    torch.set_num_threads(THREADS)
    target, model = get_target(request["target"]), load(Path(request["model"]))
    while (message := read_message(requests)) is not None:
        artifact = perform(target, model, from_plain(ExportJob, message[0]))
        gc.collect()  # the graphs of an export are cycles, and hold the weights
        write_message(replies, {"artifact": to_plain(artifact)})


def perform(target: Target, model: nn.Module, job: ExportJob) -> Artifact:
    """One artifact, or the beginning of one."""
    images = load_file(job.calibration)["images"]
    normalised = normalise(images, job.preprocessing)
    if job.pixels:
        model = fold_normalization(model, job.preprocessing.mean, job.preprocessing.std)
    if job.sublayers is not None:
        model = Prefix(model, job.sublayers)
    calibration = images if job.pixels else normalised
    precision = parse_precision(job.precision, target)
    options = ExportOptions(precision, calibration, job.observer, tuple(job.keep_float), job.metadata)
    return target.export(model, calibration[:1], job.path, options)


if __name__ == "__main__":
    main()
