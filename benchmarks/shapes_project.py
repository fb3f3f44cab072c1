"""Images with masks, drawn here, and a small ViT that segments them: a project for task = "segment".

    python benchmarks/shapes_project.py --out shapes
    cd shapes && wdp-edge prune --latency-budget 50% --images 0

Discs, squares, triangles, rings and stars, each with a texture of its own and a hue that is often its own, lie over
each other and over a background of gradients, lines and noise. The folder gets images/ (train/ and val/, each with
images/ and masks/), dense.safetensors and wdp-edge.toml. What is there is kept.
"""

from __future__ import annotations

import argparse
import colorsys
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE, init
from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.listed import IMAGES, MASKS, scan_pairs
from wdp_edge.demo.train import TrainOptions, train_dense
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output

CLASSES = ("background", "disc", "square", "triangle", "ring", "star")
SIDE = 72  # of an image; the model sees the middle of it at 64 pixels, as timm has it
SPEC = ModelSpec(
    "vit_tiny_patch16_224",
    len(CLASSES),
    {"img_size": 64, "patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 6},
    Output.MAP,
)
TRAINING = TrainOptions(steps=1_600, batch_size=32, lr=7e-4, min_crop=0.7)
COUNTS = {"train": 6_000, "val": 1_000}


@dataclass(frozen=True)
class Place:
    """Where a shape lies: its centre, radius and turn, in pixels and radians."""

    x: float
    y: float
    radius: float
    turn: float

    def points(self, radii: Sequence[float]) -> list[tuple[float, float]]:
        """Corners at equal angles; radii: of each, as shares of the shape's."""
        steps = [self.turn + 2 * math.pi * k / len(radii) for k in range(len(radii))]
        radius = [self.radius * share for share in radii]
        return [(self.x + r * math.cos(a), self.y + r * math.sin(a)) for r, a in zip(radius, steps, strict=True)]

    def box(self, share: float = 1.0) -> tuple[float, float, float, float]:
        r = self.radius * share
        return self.x - r, self.y - r, self.x + r, self.y + r


def outline(kind: str, place: Place) -> Image.Image:
    """[SIDE, SIDE], 255 inside the shape."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    draw = ImageDraw.Draw(mask)
    if kind in ("disc", "ring"):
        draw.ellipse(place.box(), fill=255)
        if kind == "ring":
            draw.ellipse(place.box(0.5), fill=0)
    else:
        corners = {"square": (1.0,) * 4, "triangle": (1.1,) * 3, "star": (1.2, 0.5) * 5}[kind]
        draw.polygon(place.points(corners), fill=255)
    return mask


def pattern(kind: str, along: np.ndarray, across: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The texture of a class, in [-1, 1]: [SIDE, SIDE]. along, across: turned coordinates in periods of the pattern."""
    first, second = np.sin(2 * math.pi * along), np.sin(2 * math.pi * across)
    if kind == "square":
        return first
    if kind == "triangle":
        return np.sign(first * second)
    if kind == "ring":
        return np.where(first + second > 0.8, 1.0, -0.3)
    if kind == "star":
        coarse = rng.uniform(-1, 1, (SIDE // 2, SIDE // 2))
        return coarse.repeat(2, 0).repeat(2, 1)
    return np.zeros_like(along)


def colour(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Any for the background, rather pale; else near the hue of the class, but not always nearest to it: [3] float."""
    if kind == CLASSES[0]:
        hue, saturation = rng.uniform(), rng.uniform(0, 0.5)
    else:
        hue, saturation = rng.normal(CLASSES.index(kind) / (len(CLASSES) - 1), 0.07) % 1, rng.uniform(0.2, 0.9)
    return 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.35, 0.9)))


def surface(kind: str, rng: np.random.Generator) -> Image.Image:
    """A colour of the class with a gradient and its pattern; the background and discs have none."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, shift = rng.uniform(0, 2 * math.pi, 2)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    period = rng.uniform(5, 9)
    relief = pattern(kind, along / period + shift, across / period, rng)[..., None] * rng.uniform(15, 45)
    colours = colour(kind, rng) + along[..., None] / SIDE * rng.uniform(-50, 50, 3)
    return Image.fromarray(np.clip(colours + relief, 0, 255).astype(np.uint8))


def draw(rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """An image of two to four shapes over a cluttered background, and its mask of class numbers."""
    picture = surface(CLASSES[0], rng)
    lines = ImageDraw.Draw(picture)
    for _ in range(rng.integers(3, 9)):
        ends = [tuple(rng.uniform(0, SIDE, 2)) for _ in range(2)]
        lines.line(ends, fill=tuple(rng.integers(0, 256, 3).tolist()), width=int(rng.integers(1, 4)))
    mask = Image.new("L", (SIDE, SIDE), 0)
    for _ in range(rng.integers(2, 5)):
        number = int(rng.integers(1, len(CLASSES)))
        x, y = rng.uniform(0.1 * SIDE, 0.9 * SIDE, 2)
        place = Place(x, y, rng.uniform(9, 20), rng.uniform(0, 2 * math.pi))
        inside = outline(CLASSES[number], place)
        picture.paste(surface(CLASSES[number], rng), mask=inside)
        mask.paste(number, mask=inside)
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float64)
    noisy = blurred + rng.normal(0, 10, blurred.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), mask


def write_pairs(folder: Path, count: int, seed: int) -> None:
    """Writes images/NNNNN.png and masks/NNNNN.png, all or nothing; a folder that is there is kept."""
    if folder.exists():
        return
    unfinished = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in (IMAGES, MASKS):
        (unfinished / part).mkdir(parents=True)
    with progress.task(f"draw {folder}", count) as advance:
        for number in range(count):
            image, mask = draw(np.random.default_rng([seed, number]))
            image.save(unfinished / IMAGES / f"{number:05d}.png")
            mask.save(unfinished / MASKS / f"{number:05d}.png")
            advance(1)
    unfinished.rename(folder)


def make(
    folder: Path, counts: dict[str, int] = COUNTS, options: TrainOptions = TRAINING, head_channels: int = 0
) -> None:
    """Images, model and recipe in `folder`, as far as they are not there. head_channels: as in [model]."""
    spec = replace(SPEC, head_channels=head_channels)
    data, checkpoint = folder / "images", folder / "dense.safetensors"
    for seed, (part, count) in enumerate(counts.items()):
        write_pairs(data / part, count, seed)
    if not checkpoint.exists():
        train, val = (scan_pairs(data / part).with_classes(CLASSES) for part in counts)
        trained = train_dense(train, val, checkpoint, spec, options, task="segment")
        progress.say(f"{checkpoint}: {trained.accuracy:.2%} mIoU, trained in {trained.seconds:.0f} s")
    if not (folder / RECIPE_FILE).exists():
        init(ModelRecipe(SPEC.name, SPEC.args, SPEC.num_classes, str(checkpoint), "segment"), data, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("shapes"))
    parser.add_argument("--head-channels", type=int, default=0, help="a convolutional head; 0: a linear one")
    args = parser.parse_args()
    progress.use(progress.Bars())
    make(args.out, head_channels=args.head_channels)


if __name__ == "__main__":
    main()
