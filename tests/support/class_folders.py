"""Real image files for the tests of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, size: tuple[int, int] = (20, 16), seed: int = 0, mode: str = "RGB") -> Path:
    """Writes noise over a gradient; size: width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 128, (size[1], size[0], 3)) + np.linspace(0, 127, size[0])[None, :, None]
    Image.fromarray(values.astype(np.uint8)).convert(mode).save(path)
    return path


def write_classes(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (20, 16)) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(root / name / f"{index:03d}.png", size, seed=1000 * number + index)
    return root
