"""Real images that need no download: scikit-learn's handwritten digits as PNG files in class folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from wdp_edge.io.files import disk_error

SIZE = 32
VALIDATION_SHARE = 5


def write_digits(folder: Path, seed: int = 0) -> tuple[int, int]:
    """Writes train/<digit>/NNNN.png and val/<digit>/NNNN.png: 1,440 and 357 images of 32 x 32 pixels.

    Every fifth image of a class goes to val, chosen by the seed. Files that exist are left alone.
    Returns the two counts. Raises SetupError when the disk is full.
    """
    images, labels = _load()
    for digit in range(10):
        numbers = np.flatnonzero(labels == digit)
        order = np.random.default_rng([seed, digit]).permutation(numbers)
        held = set(order[: len(order) // VALIDATION_SHARE].tolist())
        for number in numbers.tolist():
            part = "val" if number in held else "train"
            _write(images[number], folder / part / str(digit) / f"{number:04d}.png")
    val = sum(int((labels == digit).sum()) // VALIDATION_SHARE for digit in range(10))
    return len(labels) - val, val


def _load() -> tuple[np.ndarray, np.ndarray]:
    """[1797, 8, 8] brightness from 0 to 16, and the digits [1797]."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


def _write(image: np.ndarray, path: Path) -> None:
    if path.exists():
        return
    grey = Image.fromarray((image * (255 / 16)).round().astype(np.uint8))
    large = grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")
    # Renamed when whole, without waiting for the disk 1,797 times as atomic_path would.
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        large.save(temporary, format="PNG")
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
