"""Splits of a dataset of timm, each as a list of its own; tests/data/test_imported.py has the kinds of dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

from tiny_project import CLASSES, write_images

from wdp_edge.commands.import_dataset import import_dataset


def test_every_split_becomes_a_list(tmp_path: Path) -> None:
    write_images(tmp_path / "source/train", 2)
    shutil.copytree(tmp_path / "source/train", tmp_path / "source/test")
    found = import_dataset("torch/image_folder", ["train", "test"], tmp_path / "out", tmp_path / "source")
    assert [(split.list.name, split.images, split.classes) for split in found.splits] == [
        ("train.csv", 6, CLASSES),
        ("test.csv", 6, CLASSES),
    ]
