"""`wdp-edge import`, and that `init` takes what it wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_project import CLASSES, Cli, init_words

from wdp_edge.config.file import load_recipe


def test_a_dataset_becomes_lists_that_init_takes(cli: Cli, project: Path) -> None:
    for number, part in enumerate(("train", "val")):
        shutil.move(project / "data" / part, project / "source" / ("train", "test")[number])
    words = ("import", "torch/image_folder", "--data", "source", "--split", "train", "--split", "test", "--out", "data")
    said = cli(*words, "--json")
    assert said.code == 0, said.err
    assert [(part["list"], part["images"]) for part in said.json["splits"]] == [
        ("data/train.csv", 48),
        ("data/test.csv", 12),
    ]
    assert said.json["splits"][0]["classes"] == list(CLASSES) and said.json["version"] == 1
    said = cli(*init_words(), "--json")
    assert said.code == 0 and (said.json["train_images"], said.json["val_images"]) == (48, 12)
    assert load_recipe(Path("wdp-edge.toml")).data.val == "data/test.csv"
    again = cli(*words)
    assert again.code == 2 and "data/train.csv exists" in again.err


def test_what_was_written_is_said(cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wdp_edge.progress.Bars.WAITED", 0.0)
    said = cli("import", "torch/image_folder", "--data", "data", "--split", "train", "--out", "lists")
    assert said.code == 0 and "lists/train.csv: 48 images" in said.out
    assert "import torch/image_folder" in said.err
