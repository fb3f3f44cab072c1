"""Words and files that the tests of the command line share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "vit_tiny_patch16_224"
ARGS = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 4}
CLASSES = ("blue", "green", "red")
# Of the model's arguments, for whole runs: every probe of a table is a file of its own, and blocks make them long.
SMALLER = {"depth": 2, "num_heads": 2}


@dataclass(frozen=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        data = json.loads(self.out)
        assert isinstance(data, dict)
        return data


Cli = Callable[..., Said]


def write_images(folder: Path, per_class: int) -> None:
    """Noisy squares in the colour of their class."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., 2 - index] += 120
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


def init_words(**changes: object) -> list[object]:
    """The `wdp-edge init` of the tiny project; init_words(checkpoint=…) changes an option."""
    options = {"model": MODEL, "num-classes": len(CLASSES), "checkpoint": "dense.safetensors", "data": "data"}
    words: list[object] = ["init"]
    for name, value in {**options, **{k.replace("_", "-"): v for k, v in changes.items()}}.items():
        words += [f"--{name}", value]
    for name, value in ARGS.items():
        words += ["--model-arg", f"{name}={value}"]
    return words


def small_project(folder: Path, **changes: int) -> Path:
    """A random dense model and noisy coloured squares in FOLDER. changes: of the model's arguments."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model(MODEL, num_classes=3, **{**ARGS, **changes}).state_dict(), folder / "dense.safetensors")
    write_images(folder / "data/train", 24)
    write_images(folder / "data/val", 4)
    return folder


def without_class_folders(root: Path) -> None:
    """Puts the images of `write_images` right into `root`."""
    for image in sorted(root.rglob("*.png")):
        image.rename(root / f"{image.parent.name}-{image.name}")
    for empty in [path for path in root.iterdir() if path.is_dir()]:
        empty.rmdir()
