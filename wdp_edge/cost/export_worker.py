"""`python -m wdp_edge.cost.export_worker`: exports models with random weights, for timing."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from wdp_edge.io.plain import from_plain
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import part_of
from wdp_edge.models.vit import example_of
from wdp_edge.protocols.target import ExportOptions, get_target, parse_precision
from wdp_edge.workers.messages import read_message, serve, write_message


def main() -> None:
    serve(handle)


def handle(request: dict[str, Any], requests: IO[bytes], replies: IO[bytes]) -> None:
    """request: spec, target, precision. Each message asks for one structure at one path."""
    torch.set_num_threads(1)
    target, spec = get_target(request["target"]), from_plain(ModelSpec, request["spec"])
    dense = create(spec)  # once: timm draws random weights for it
    while (message := read_message(requests)) is not None:
        job = message[0]
        model: Any = part_of(copy.deepcopy(dense), spec, from_plain(Structure, job["structure"]))
        randomise(model)
        example = example_of(model)
        calibration = torch.randn(4, *example.shape[1:])
        precision = parse_precision(request["precision"], target)
        target.export(model, example, Path(job["path"]), ExportOptions(precision, calibration))
        gc.collect()  # the graphs of an export are cycles, and hold the weights
        write_message(replies, {"done": job["path"]})


@torch.no_grad()
def randomise(model: nn.Module) -> None:
    """Weights as different from each other as a trained model's.

    timm starts biases at zero and LayerScale at 1e-5, and a file holds equal tensors only once: a probe would be
    smaller and faster than the model it stands for.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, 0.05, generator=generator)
        else:
            parameter.uniform_(0.5, 1.0, generator=generator)


if __name__ == "__main__":
    main()
