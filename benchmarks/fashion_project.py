"""A second pair of images and model for `make bench-pruners`, made here: Fashion-MNIST and a small ViT from scratch.

    apt-get install dataset-fashion-mnist                # Debian's package; any copy of the four files will do
    python benchmarks/fashion_project.py --out fashion
    python benchmarks/bench_pruners.py --project fashion --out fashion/arena

The folder gets images (PNG, train/ and val/ by class), dense.safetensors and wdp-edge.toml. What is there is kept.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from torchvision.datasets import FashionMNIST

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE, init
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.folder import scan
from wdp_edge.demo.train import TrainOptions, train_dense
from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SOURCE = Path("/usr/share/datasets/fashion-mnist")
# Three million parameters, 17 tokens: trains in a quarter of an hour on two cores.
SPEC = ModelSpec(
    "vit_tiny_patch16_224", 10, {"img_size": 28, "patch_size": 7, "embed_dim": 192, "depth": 8, "num_heads": 6}
)
TRAINING = TrainOptions(steps=4_000, batch_size=128, lr=1e-3, min_crop=0.8)


def read(source: Path, train: bool) -> Any:
    """torchvision's dataset of the gzipped files in `source`: `data` [n, 28, 28] uint8, `targets` [n].

    Raises InputError when they are not there or damaged.
    """
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        try:
            for packed in source.glob("*-ubyte.gz"):
                with gzip.open(packed) as file, (raw / packed.stem).open("wb") as unpacked:
                    shutil.copyfileobj(file, unpacked)
            return FashionMNIST(name, train=train)
        except (RuntimeError, AssertionError, ValueError, OSError, EOFError) as error:
            raise InputError(
                f"{source} holds no sound Fashion-MNIST: {error}.",
                "Give --source a folder with its four *-ubyte.gz files.",
            ) from error


def write_images(source: Path, train: bool, folder: Path) -> None:
    """Writes folder/<class>/NNNNN.png, all or nothing; a folder that is there is kept."""
    if folder.exists():
        return
    found = read(source, train)
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in CLASSES:
        (unfinished / name).mkdir(parents=True)
    with progress.task(f"write {folder}", len(found.data)) as advance:
        for number, (image, label) in enumerate(zip(found.data.numpy(), found.targets.tolist(), strict=True)):
            Image.fromarray(image).convert("RGB").save(unfinished / CLASSES[label] / f"{number:05d}.png")
            advance(1)
    unfinished.rename(folder)


def make(folder: Path, source: Path, options: TrainOptions = TRAINING) -> None:
    """Images, model and recipe in `folder`, as far as they are not there."""
    data, checkpoint = folder / "images", folder / "dense.safetensors"
    for part in ("train", "val"):
        write_images(source, part == "train", data / part)
    if not checkpoint.exists():
        trained = train_dense(scan(data / "train"), scan(data / "val"), checkpoint, SPEC, options)
        progress.say(f"{checkpoint}: {trained.accuracy:.2%} of the test images, trained in {trained.seconds:.0f} s")
    if not (folder / RECIPE_FILE).exists():
        init(ModelRecipe(SPEC.name, SPEC.args, SPEC.num_classes, str(checkpoint)), data, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fashion"))
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder with the four *-ubyte.gz files")
    args = parser.parse_args()
    progress.use(progress.Bars())
    make(args.out, args.source)


if __name__ == "__main__":
    main()
