"""models/weight_sets.py: wrappers of trainers come off, and what was chosen among several sets is said."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_checkpoint
from wdp_edge.models.weight_sets import find_sets

WEIGHTS = {"patch_embed.proj.weight": torch.ones(4, 3, 2, 2), "blocks.0.norm1.weight": torch.ones(4)}


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in WEIGHTS.items()}


WRAPPED: dict[str, Any] = {
    "data parallel": under("module."),
    "compiled": under("_orig_mod."),
    "both": under("_orig_mod.module."),
    "a trainer's": {"epoch": 3, "state_dict": under("model."), "hyper_parameters": {"lr": 1e-3}},
    "net": {"net": WEIGHTS, "acc": 91.2},
    "nested": {"checkpoint": {"model": WEIGHTS}},
    "a teacher": {"teacher": under("backbone.")},
    "torch's averages": {"n_averaged": torch.tensor(3), **under("module.")},
    "a number among them": {"epoch": 3, **WEIGHTS},
    "timm's": {
        "arch": "vit_tiny_patch16_224",
        "state_dict": WEIGHTS,
        "args": Namespace(model="vit_tiny_patch16_224", lr=0.1),
        "metric": np.float64(77.1),
    },
    "a part of a detector": {**under("backbone."), "neck.conv.weight": torch.ones(2)},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_come_off(wrapper: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[wrapper], tmp_path / "checkpoint.pth")
    found = read_checkpoint(tmp_path / "checkpoint.pth")
    assert found.tensors.keys() == WEIGHTS.keys() and not found.choice


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    torch.save(WRAPPED["torch's averages"] | {"epoch": 3}, tmp_path / "checkpoint.pth")
    found = read_checkpoint(tmp_path / "checkpoint.pth")
    assert (found.unused, found.left_out) == (("n_averaged",), ("epoch",))
    assert found.summary == "names of timm; not used: n_averaged, epoch"


def test_averaged_weights_come_first_and_towers_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({**under("student."), **{k: v + 1 for k, v in under("teacher.").items()}}, path)
    found = read_checkpoint(path)
    assert (found.prefix, found.others) == ("teacher", ("student",)) and "averaged" in found.choice
    assert float(read_checkpoint(path, prefix="student").tensors["blocks.0.norm1.weight"][0]) == 1
    with pytest.raises(InputError, match="below 'backbone'") as caught:
        read_checkpoint(path, prefix="backbone")
    assert "teacher, student" in caught.value.hint


def test_the_largest_set_stands_for_what_is_no_tower() -> None:
    found = find_sets({"a": {"x.weight": torch.ones(1)}, "b": {"y.weight": torch.ones(1), "z.weight": torch.ones(1)}})
    assert [one.entry for one in found] == ["b"]
    assert find_sets({"epoch": 3}) == find_sets([]) == []


def test_words_that_hold_the_letters_of_ema_mean_no_average(tmp_path: Path) -> None:
    torch.save({**under("net."), **under("semantic.backbone.")}, tmp_path / "checkpoint.pth")
    assert read_checkpoint(tmp_path / "checkpoint.pth").prefix == "net"
    torch.save({**under("net."), **under("net_ema.backbone.")}, tmp_path / "checkpoint.pth")
    assert read_checkpoint(tmp_path / "checkpoint.pth").prefix == "net_ema.backbone"
