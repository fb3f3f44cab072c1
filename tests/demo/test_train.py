from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.demo.digits import write_digits
from wdp_edge.demo.train import TrainOptions, accuracy, rate, train_dense
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec

TINY = ModelSpec(
    "vit_tiny_patch16_224",
    10,
    {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3},
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageFolder, ImageFolder]:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder)
    return scan(folder / "train"), scan(folder / "val")


def test_trains_a_model_that_tells_digits_apart(folders: tuple[ImageFolder, ImageFolder], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    options = TrainOptions(steps=120, batch_size=32, lr=3e-3)
    trained = train_dense(*folders, tmp_path / "dense.safetensors", TINY, options)
    assert trained.images == 120 * 32
    assert trained.accuracy > 0.6
    assert torch.equal(torch.get_rng_state(), before)
    assert accuracy(load_dense(TINY, trained.checkpoint), folders[1]) == trained.accuracy


def test_the_same_seed_gives_the_same_weights(folders: tuple[ImageFolder, ImageFolder], tmp_path: Path) -> None:
    for name in ("one", "two"):
        train_dense(*folders, tmp_path / f"{name}.safetensors", TINY, TrainOptions(steps=3, batch_size=8))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_the_rate_rises_and_falls() -> None:
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[0] < 0.2
    assert 0 <= rates[-1] < 0.01
    assert rate(0, 1, 0.0) == 1.0
