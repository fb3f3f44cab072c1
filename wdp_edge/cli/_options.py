"""Options that several commands share, and which setting of the recipe each one sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="timm model name.")]
ModelArg = Annotated[
    list[str] | None,
    typer.Option("--model-arg", metavar="KEY=VALUE", help="Argument of timm.create_model; repeatable."),
]
NumClasses = Annotated[int | None, typer.Option("--num-classes", metavar="N", help="Classes of the trained head.")]
Checkpoint = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help="Trained weights: .safetensors, .pt or .pth."),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FOLDER", help="Folder with train/ and val/ (or test/) inside."),
]
LatencyBudget = Annotated[
    str | None,
    typer.Option("--latency-budget", metavar="TIME", help="20ms, or 50% of the dense model's latency."),
]
Target = Annotated[str | None, typer.Option("--target", metavar="NAME", help="executorch, coreml, tflite, onnx …")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="NAME", help="fp32, int8-dynamic …; default: the target's choice."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Where files are timed: local, ssh:…, adb:…, qemu:…, apple."),
]
Accept = Annotated[
    str | None,
    typer.Option("--accept", metavar="KIND", help="Let virtual or estimated times pass the budget."),
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="N", help="Threads of the runtime on the device.")]
Run = Annotated[
    Path | None,
    typer.Argument(metavar="[RUN]", help="A run folder; default: the latest one.", show_default=False),
]

NAMES = {
    "model.name": "--model",
    "model.args": "--model-arg",
    "model.num_classes": "--num-classes",
    "model.checkpoint": "--checkpoint",
    "data.train": "--train",
    "data.val": "--val",
    "prune.latency_budget": "--latency-budget",
    "prune.target": "--target",
    "prune.precision": "--precision",
    "prune.device": "--device",
    "prune.accept": "--accept",
    "prune.threads": "--threads",
    "prune.seed": "--seed",
    "prune.out": "--out",
    "prune.images": "--images",
    "prune.epochs": "--epochs",
}


def model_settings(
    name: str | None, arguments: Sequence[str] | None, num_classes: int | None, checkpoint: Path | None
) -> dict[str, Any]:
    """The [model] settings that were given, by dotted key.

    Raises InputError for an argument that is not KEY=VALUE.
    """
    from wdp_edge.cli._shared import given, parse_arguments

    settings = given(
        {
            "model.name": name,
            "model.num_classes": num_classes,
            "model.checkpoint": None if checkpoint is None else str(checkpoint),
        }
    )
    return settings | {f"model.args.{k}": v for k, v in parse_arguments(arguments or ()).items()}


def data_settings(data: Path | None, train: Path | None, val: Path | None) -> dict[str, Any]:
    """The [data] settings that were given; --train and --val win over what is found in --data.

    Raises InputError when --data holds no training or validation folder.
    """
    from wdp_edge.data.folder import resolve_data

    otherwise = ", or name the two with --train and --val"
    found = resolve_data(data, otherwise=otherwise) if data is not None and not (train and val) else (None, None)
    chosen = {"data.train": train or found[0], "data.val": val or found[1]}
    return {key: str(path) for key, path in chosen.items() if path is not None}
