"""models/weight_folders.py: which files a checkpoint of several has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.weight_folders import weight_files

STEM = {"patch_embed.proj.weight": torch.ones(4, 3, 2, 2)}
BLOCK = {"blocks.0.norm1.weight": torch.ones(4)}
INDEX = "model.safetensors.index.json"


def sharded(folder: Path) -> Path:
    folder.mkdir()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for name, part in zip(names, (STEM, BLOCK), strict=True):
        save_file(part, folder / name)
    where = {key: name for name, part in zip(names, (STEM, BLOCK), strict=True) for key in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return folder


def test_an_index_and_its_folder_are_all_of_its_parts(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    for path in (folder, folder / INDEX):
        assert [p.name[:11] for p in weight_files(path)] == ["model-00001", "model-00002"]
        assert read_checkpoint(path).tensors.keys() == STEM.keys() | BLOCK.keys()


def test_a_folder_of_one_file(tmp_path: Path) -> None:
    torch.save(STEM, tmp_path / "pytorch_model.bin")
    assert weight_files(tmp_path) == [tmp_path / "pytorch_model.bin"]
    save_file(STEM, tmp_path / "model.safetensors")
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"], "as transformers prefers it"


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "model")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-00002-of-00002\.safetensors, which is not beside it") as caught:
        weight_files(folder)
    assert "all 2 parts" in caught.value.hint


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
def test_an_index_that_leads_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"cls_token": name}}))
    with pytest.raises(InputError, match="outside of its folder"):
        weight_files(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": {"a": 3}}', '{"weight_map": []}'])
def test_an_index_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(InputError, match="not an index of weights"):
        weight_files(tmp_path / INDEX)
