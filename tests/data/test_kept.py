"""data/kept.py: names in the cache, and how much stays there."""

import os
from pathlib import Path

import torch
from class_folders import write_classes

from wdp_edge.data import kept
from wdp_edge.data.folder import scan


def test_a_name_depends_on_images_weights_and_settings_but_not_on_how_the_folder_is_written(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "images", {"a": 2, "b": 1})
    weights = {"weight": torch.ones(2)}
    name = kept.digest({"size": 16}, weights, scan(root))
    assert kept.digest({"size": 16}, weights, scan(tmp_path / "images" / ".." / "images")) == name
    os.utime(root / "a/000.png", (1e9, 1e9))
    others = [
        kept.digest({"size": 16}, weights, scan(root)),
        kept.digest({"size": 24}, weights, scan(root)),
        kept.digest({"size": 16}, {"weight": torch.zeros(2)}, scan(root)),
    ]
    assert len({name, *others}) == 4


def test_the_last_used_stay_and_what_is_being_written(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}").mkdir()
        os.utime(tmp_path / f"{number}", (number, number))
    (tmp_path / ".5.tmp").write_text("half of a file")
    kept.touch(tmp_path / "0")
    kept.touch(tmp_path / "missing")
    kept.forget(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".5.tmp", "0", "3", "4", "5"]
