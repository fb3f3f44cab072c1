"""How long it takes to export a model to the four main targets and to prove every file.

    python benchmarks/bench_export.py --data images/ --model vit_small_patch16_224

Random weights, spread as a trained model's; images are scaled to the model's size. Grey digits would not do: they move
the logits of random weights less than int8 rounding does. Goal: 180 s for ViT-S/16 at 224 px to four targets in one
precision each, on two cores.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import wdp_edge
from wdp_edge import progress
from wdp_edge.config.recipe import DataRecipe, ModelRecipe, PruneRecipe, Recipe
from wdp_edge.data.folder import resolve_data

STRIPS = 5
CROPS = {"train": 160, "val": 4}
MAIN = ("executorch", "coreml", "tflite", "onnx")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train/ and val/; default: crops of photographs")
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--target", action="append", help="repeatable; default: the four main ones")
    parser.add_argument("--precision", default="default")
    parser.add_argument("--out", type=Path, help="keep the run here; default: a temporary folder")
    return parser.parse_args()


def photographs(folder: Path) -> Path:
    """Real images that need no download: crops of scikit-learn's two photographs, one class for each of ten strips."""
    from sklearn.datasets import load_sample_images

    chosen = random.Random(0)
    for name, pixels in zip(("temple", "flower"), load_sample_images().images, strict=True):
        picture = Image.fromarray(pixels)
        for strip, (part, count) in itertools.product(range(STRIPS), CROPS.items()):
            place = folder / part / f"{name}-{strip}"
            place.mkdir(parents=True)
            for number in range(count):
                crop_of(picture, strip, chosen).save(place / f"{number:03}.png")
    return folder


def crop_of(picture: Image.Image, strip: int, chosen: random.Random) -> Image.Image:
    """A square of a vertical strip of the picture, [96, 96]."""
    side = chosen.randint(picture.height // 7, picture.height // 2)
    left = min(picture.width * strip // STRIPS + chosen.randrange(picture.width // STRIPS), picture.width - side)
    top = chosen.randint(0, picture.height - side)
    return picture.crop((left, top, left + side, top + side)).resize((96, 96))


@torch.no_grad()
def spread(model: torch.nn.Module) -> None:
    """Random weights with which logits differ from image to image as a trained model's do."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def main() -> None:
    """The whole export with every proof, then a table."""
    args = arguments()
    progress.use(progress.Bars())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, val = resolve_data(args.data or photographs(folder / "photographs"))
        classes = sum(1 for p in train.iterdir() if p.is_dir())
        torch.manual_seed(0)
        model = timm.create_model(args.model, num_classes=classes)
        spread(model)
        save_file(model.state_dict(), folder / "dense.safetensors")
        recipe = Recipe(
            ModelRecipe(args.model, {}, classes, str(folder / "dense.safetensors")),
            DataRecipe(str(train), str(val), holdout_images=512, calibration_images=128),
            PruneRecipe(out=str(args.out or folder / "run")),
        )
        run = wdp_edge.dense_run(recipe)
        start = time.monotonic()
        result = wdp_edge.export(run, args.target or MAIN, (args.precision,))
        seconds = time.monotonic() - start
    print(f"{args.model}, random weights, {result.artifacts[0].parity.images} images")
    print("target       precision     agree   cosine      size  verified")
    for a in result.artifacts:
        print(
            f"{a.target:12} {a.precision:13} {a.parity.agreement:5.1%} {a.parity.cosine_centred:8.4f} "
            f"{a.bytes / 1e6:7.1f} MB  {'yes' if a.verified else f'no, from {a.broke_at} on'}"
        )
    print(f"exported and verified in {seconds:.0f} s (goal for ViT-S/16 at 224 px and four targets: 180 s)")


if __name__ == "__main__":
    main()
