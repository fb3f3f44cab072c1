"""models/checkpoints.py and weight_files.py: what is read, which set of weights is taken, and what other files are."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_checkpoint, read_weights
from wdp_edge.models.files import load_dense
from wdp_edge.models.spec import ModelSpec
from wdp_edge.models.weight_files import damaged, kind_of

State = dict[str, torch.Tensor]
TENSORS = {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}


def test_the_set_that_is_taken_is_said_and_can_be_named(tmp_path: Path) -> None:
    path, other = tmp_path / "sets.pth", {k: v + 5 for k, v in TENSORS.items()}
    torch.save({"model": TENSORS, "model_ema": other, "epoch": 3, "nested": {"student": other}}, path)
    found = read_checkpoint(path)
    assert (found.taken, found.others) == ("model_ema", ("model",)) and "model_ema" in found.choice
    assert torch.equal(found.tensors["head.bias"], other["head.bias"])
    assert torch.equal(read_weights(path, "model")["head.bias"], TENSORS["head.bias"])
    assert torch.equal(read_weights(path, "nested.student")["head.bias"], other["head.bias"])
    with pytest.raises(InputError, match=r"no entry 'teacher'.*model, model_ema, nested"):
        read_weights(path, "teacher")
    with pytest.raises(InputError, match="no state dict under 'epoch', but an object of int"):
        read_weights(path, "epoch")


@pytest.mark.parametrize("taken", ["state_dict_ema", "state_dict", "model"])
def test_one_set_is_no_choice(taken: str, tmp_path: Path) -> None:
    torch.save({taken: TENSORS, "optimizer": {"lr": 1}}, tmp_path / "one.pth")
    found = read_checkpoint(tmp_path / "one.pth")
    assert found.taken == taken and not found.choice and set(found.tensors) == set(TENSORS)


@pytest.mark.parametrize("name", ["a.pt", "a.SAFETENSORS", "a.bin", "weights"])
def test_the_content_decides_not_the_name(name: str, tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / name)
    assert set(read_weights(tmp_path / name)) == set(TENSORS)
    torch.save(TENSORS, tmp_path / "torch.safetensors")
    torch.save(TENSORS, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for other in ("torch", "old"):
        assert torch.equal(read_weights(tmp_path / f"{other}.safetensors")["head.weight"], TENSORS["head.weight"])


def of_bytes(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def script(path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")


def claims_much(path: Path) -> None:
    """A gigabyte in a megabyte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("a/data/0", bytes(2**24))


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "module.pth": (lambda p: torch.save(torch.nn.Linear(2, 2), p), r"whole pickled model \(torch.nn.modules.linear"),
    "old.pth": (
        lambda p: torch.save(torch.nn.Linear(2, 2), p, _use_new_zipfile_serialization=False),
        r"whole pickled model \(torch.nn.modules.linear",
    ),
    "script.pt": (script, "TorchScript"),
    "protocol4.pth": (lambda p: torch.save(TENSORS, p, pickle_protocol=4), "protocol 4"),
    "plain.pkl": (lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=5)), "plain Python pickle"),
    "args.pth": (lambda p: torch.save({"model": TENSORS, "args": Namespace(lr=1)}, p), "argparse.Namespace"),
    "jax.npz": (lambda p: np.savez(p, a=np.zeros(3)), "NumPy archive"),
    "a.npy": (lambda p: np.save(p, np.zeros(3)), "NumPy array"),
    "a.keras": (keras, "Keras"),
    "a.h5": (of_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "HDF5"),
    "a.onnx": (of_bytes(b"\x08\x09\x12\x07pytorch"), "exported file"),
    "a.tflite": (of_bytes(b"\x1c\0\0\0TFL3" + bytes(50)), "exported file"),
    "lfs.safetensors": (of_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"),
    "page.pth": (of_bytes(b"\n <!DOCTYPE html><title>Sign in</title>"), "web page"),
    "denied.pth": (of_bytes(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "web page"),
    "index.json": (of_bytes(b'{"weight_map": {}}'), "JSON"),
    "list.txt": (of_bytes(b"a text\nof lines\n"), "text file"),
    "a.tar.gz": (of_bytes(b"\x1f\x8b\x08" + bytes(50)), "gzip"),
    "empty.pth": (of_bytes(b""), "is empty"),
    "much.pth": (claims_much, "larger than the file"),
    "header.safetensors": (of_bytes(struct.pack("<Q", 2**40) + b"{" + bytes(90)), "corrupt"),
    "garbage.safetensors": (of_bytes(b"\x01\x02garbage" * 99), "corrupt"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_weights_file_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    make, said = FOREIGN[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=said) as caught:
        read_weights(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message and caught.value.hint


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


def test_a_folder_names_the_weights_in_it(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    with pytest.raises(InputError, match="a folder, with no weights"):
        kind_of(hub)
    (hub / "model.safetensors").touch()
    with pytest.raises(InputError, match=r"is a folder\. Name the file in it: .*hub/model\.safetensors"):
        kind_of(hub)
    (hub / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(InputError, match="several parts"):
        kind_of(hub)


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "best.pth").touch()
    with pytest.raises(InputError, match=r"does not exist\. Did you mean .*best\.pth"):
        kind_of(tmp_path / "bets.pth")
    (tmp_path / "link.pth").symlink_to(tmp_path / "gone.pth")
    with pytest.raises(InputError, match=r"a link to .*gone"):
        kind_of(tmp_path / "link.pth")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        kind_of(tmp_path / "pipe")
    assert "corrupt" in damaged(tmp_path / "x").message


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("NaN", lambda w: w.fill_(float("nan")), r"NaN values in blocks\.1\.mlp\.fc1\.weight \(\d+ of \d+\)"),
        ("infinite", lambda w: w.view(-1)[0].fill_(float("inf")), "infinite values in blocks.1.mlp.fc1.weight"),
        ("float16", lambda w: (w * 1e9).half(), "infinite .* save the weights in float32"),
        ("float64", lambda w: w.double() * 1e300, "beyond the range of float32"),
        ("int8", lambda w: w.to(torch.int8), "holds int8 in blocks.1.mlp.fc1.weight"),
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
