"""The second pair of images and model: IDX files become class folders, and a small model learns from them."""

from __future__ import annotations

import gzip
from pathlib import Path

import fashion_project as fashion
import numpy as np
import pytest
from PIL import Image

from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import load_recipe
from wdp_edge.demo.train import TrainOptions
from wdp_edge.errors import InputError


def idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("idx"), np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 20)):
        idx(folder / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        idx(folder / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


def test_a_project_is_made_once(source: Path, tmp_path: Path) -> None:
    for _ in range(2):
        fashion.make(tmp_path, source, TrainOptions(steps=1, batch_size=8))
    recipe = load_recipe(tmp_path / RECIPE_FILE)
    assert recipe.model.num_classes == 10 and recipe.model.args["depth"] == 8
    first = fashion.read(source, train=True).data[13].numpy()
    with Image.open(tmp_path / "images/train/dress/00013.png") as image:
        assert (np.asarray(image)[..., 1] == first).all()
    assert len(list(tmp_path.glob("images/*/*/*.png"))) == 60
    assert (tmp_path / "dense.safetensors").exists()


def test_other_files_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sound Fashion-MNIST"):
        fashion.read(tmp_path, train=True)
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(InputError, match="no sound Fashion-MNIST"):
        fashion.read(tmp_path, train=True)
