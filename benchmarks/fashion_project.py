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
from pathlib import Path

import numpy as np
from PIL import Image

from wdp_edge import progress
from wdp_edge.data.folder import scan
from wdp_edge.demo.train import TrainOptions, train_dense
from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec
from wdp_edge.project import RECIPE_FILE, init
from wdp_edge.recipe import ModelRecipe

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
SOURCE = Path("/usr/share/datasets/fashion-mnist")
# Three million parameters, 17 tokens: trains in a quarter of an hour on two cores.
SPEC = ModelSpec(
    "vit_tiny_patch16_224", 10, {"img_size": 28, "patch_size": 7, "embed_dim": 192, "depth": 8, "num_heads": 6}
)
TRAINING = TrainOptions(steps=4_000, batch_size=128, lr=1e-3, min_crop=0.8)
IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of bytes: images [n, H, W] or labels [n], uint8. Raises InputError for anything else."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    magic = int.from_bytes(data[:4], "big")
    if magic not in (IMAGES_MAGIC, LABELS_MAGIC):
        raise InputError(f"'{path}' is no IDX file of bytes.", "Fashion-MNIST's four files are wanted.")
    sizes = np.frombuffer(data, ">u4", magic & 0xFF, offset=4).astype(int)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * len(sizes))
    if len(values) != sizes.prod():
        raise InputError(f"'{path}' has {len(values)} values where {sizes.prod()} should be.", "Fetch it again.")
    return values.reshape(sizes)


def write_images(source: Path, prefix: str, folder: Path) -> int:
    """Writes folder/<class>/NNNNN.png, all or nothing. Returns how many images there are."""
    images, labels = (read_idx(source / f"{prefix}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    if folder.exists():
        return len(images)
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    for name in CLASSES:
        (unfinished / name).mkdir(parents=True)
    with progress.task(f"write {folder}", len(images)) as advance:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).convert("RGB").save(unfinished / CLASSES[label] / f"{number:05d}.png")
            advance(1)
    unfinished.rename(folder)
    return len(images)


def make(folder: Path, source: Path, options: TrainOptions = TRAINING) -> None:
    """Images, model and recipe in `folder`, as far as they are not there."""
    data, checkpoint = folder / "images", folder / "dense.safetensors"
    for prefix, part in (("train", "train"), ("t10k", "val")):
        write_images(source, prefix, data / part)
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
