"""`python -m wdp_edge.pipeline.export_worker`: exports a saved model, and takes the toolkit's leaks along."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load_file
from torch import nn

from wdp_edge.data.preprocess import normalise
from wdp_edge.devices.messages import read_message, write_message
from wdp_edge.devices.serve import serve
from wdp_edge.files import to_plain
from wdp_edge.models.files import load
from wdp_edge.models.pixels import fold_normalization
from wdp_edge.models.prefix import Prefix
from wdp_edge.pipeline.export_job import ExportJob
from wdp_edge.plain import from_plain
from wdp_edge.target import Artifact, ExportOptions, Target, get_target

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
    from wdp_edge.calibration.smoothing import smooth

    images = load_file(job.calibration)["images"]
    normalised = normalise(images, job.preprocessing)
    if job.smoothing is not None:
        model = smooth(model, normalised, job.smoothing)
    if job.pixels:
        model = fold_normalization(model, job.preprocessing.mean, job.preprocessing.std)
    if job.sublayers is not None:
        model = Prefix(model, job.sublayers)
    calibration = images if job.pixels else normalised
    options = ExportOptions(job.precision, calibration, job.observer, tuple(job.keep_float), job.metadata)
    return target.export(model, calibration[:1], job.path, options)


if __name__ == "__main__":
    main()
