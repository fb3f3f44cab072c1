from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.split import balanced_sample
from wdp_edge.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    for name, count in {"a": 12, "b": 9, "c": 3}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (4, 4), (i, i, i)).save(tmp_path / "images" / name / f"{i:02d}.png")
    return scan(tmp_path / "images")


def test_classes_are_balanced_within_the_allowed_images(folder: ImageFolder) -> None:
    allowed = [i for i in range(len(folder)) if i % 12 != 0]
    sample = balanced_sample(folder, allowed, 12, seed=0)
    indices = sample.indices(folder)
    assert len(sample) == len(set(indices)) == 12
    assert set(indices) <= set(allowed)
    assert [len(g) for g in folder.by_class(indices)] == [5, 4, 3]


def test_the_seed_decides(folder: ImageFolder) -> None:
    everything = range(len(folder))
    assert balanced_sample(folder, everything, 9, 1) == balanced_sample(folder, everything, 9, 1)
    assert balanced_sample(folder, everything, 9, 1) != balanced_sample(folder, everything, 9, 2)


def test_fewer_images_than_asked_give_all(folder: ImageFolder) -> None:
    assert balanced_sample(folder, [1, 2, 20], 100, 0).indices(folder) == [1, 2, 20]


def test_lost_images_are_counted_and_named(folder: ImageFolder) -> None:
    sample = balanced_sample(folder, range(len(folder)), 6, 5)
    for path in sample.paths[:2]:
        (folder.root / path).unlink()
    with pytest.raises(InputError, match=f"2 of the calibration images are missing.*{sample.paths[0]}"):
        sample.indices(scan(folder.root))
