"""Checkpoints: which set of weights in a file is taken, and which values cannot be weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_checkpoint, read_weights
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec

State = dict[str, torch.Tensor]
TENSORS = {
    "patch_embed.proj.weight": torch.ones(3, 3, 2, 2),
    "head.weight": torch.ones(2, 3),
    "head.bias": torch.zeros(2),
}


def test_the_set_that_is_taken_is_said_and_can_be_named(tmp_path: Path) -> None:
    path, other = tmp_path / "sets.pth", {k: v + 5 for k, v in TENSORS.items()}
    torch.save({"model": TENSORS, "model_ema": other, "epoch": 3, "nested": {"student": other}}, path)
    found = read_checkpoint(path)
    assert (found.entry, found.others) == ("model_ema", ("model", "nested.student")) and "model_ema" in found.choice
    assert torch.equal(found.tensors["head.bias"], other["head.bias"])
    assert torch.equal(read_checkpoint(path, "model").tensors["head.bias"], TENSORS["head.bias"])
    assert torch.equal(read_checkpoint(path, "nested.student").tensors["head.bias"], other["head.bias"])
    with pytest.raises(InputError, match=r"no entry 'teacher'.*model, model_ema, nested"):
        read_checkpoint(path, "teacher")
    with pytest.raises(InputError, match="no state dict under 'epoch', but an object of int"):
        read_checkpoint(path, "epoch")


@pytest.mark.parametrize("taken", ["state_dict_ema", "state_dict", "model"])
def test_one_set_is_no_choice(taken: str, tmp_path: Path) -> None:
    torch.save({taken: TENSORS, "optimizer": {"lr": 1}}, tmp_path / "one.pth")
    found = read_checkpoint(tmp_path / "one.pth")
    assert not found.entry and not found.choice and set(found.tensors) == set(TENSORS)


@pytest.mark.parametrize("name", ["a.pt", "a.SAFETENSORS", "a.bin", "weights"])
def test_the_content_decides_not_the_name(name: str, tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / name)
    assert set(read_weights(tmp_path / name)) == set(TENSORS)
    torch.save(TENSORS, tmp_path / "torch.safetensors")
    torch.save(TENSORS, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for other in ("torch", "old"):
        assert torch.equal(read_weights(tmp_path / f"{other}.safetensors")["head.weight"], TENSORS["head.weight"])


def test_a_header_that_lies_about_its_tensors(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    (tmp_path / "lie.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(InputError, match="corrupt"):
        read_weights(tmp_path / "lie.safetensors")


def test_a_cut_file_is_corrupt(tmp_path: Path) -> None:
    for name, save in (("a.pth", torch.save), ("a.safetensors", save_file)):
        save(TENSORS, tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match="corrupt"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("NaN", lambda w: w.fill_(float("nan")), r"NaN values in blocks\.1\.mlp\.fc1\.weight \(\d+ of \d+\)"),
        ("infinite", lambda w: w.view(-1)[0].fill_(float("inf")), "infinite values in blocks.1.mlp.fc1.weight"),
        ("float16", lambda w: (w * 1e9).half(), "infinite .* save the weights in float32"),
        ("float64", lambda w: w.double() * 1e300, "beyond the range of float32"),
        ("int8", lambda w: w.to(torch.int8), r"quantized weights \(blocks.1.mlp.fc1.weight: int8"),
    ],
)
def test_values_that_cannot_be_weights(
    kind: str, change: Callable[[torch.Tensor], Any], said: str, tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    state: State = {k: v.clone() for k, v in tiny_model.state_dict().items()}
    name = "blocks.1.mlp.fc1.weight"
    changed = change(state[name])
    if changed.shape == state[name].shape:
        state[name] = changed
    torch.save(state, tmp_path / f"{kind}.pth")
    with pytest.raises(InputError, match=said):
        load_dense(tiny_spec, tmp_path / f"{kind}.pth")
