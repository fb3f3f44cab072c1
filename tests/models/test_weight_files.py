"""What a file given as a checkpoint is: a kind that can be read, or something else that is called by its name."""

from __future__ import annotations

import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_weights
from wdp_edge.models.weight_files import FileKind, damaged, kind_of

TENSORS = {"head.weight": torch.ones(2, 3), "head.bias": torch.zeros(2)}


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


def exported(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/archive_format", "pt2")
        archive.writestr("program/data/sample_inputs/model.pt", b"")


def tar(path: Path) -> None:
    (path.parent / "weights.pth").write_bytes(b"x")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "weights.pth", "weights.pth")


def cut_short(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [99], "data_offsets": [0, 396]}}).encode()
    path.write_bytes((struct.pack("<Q", len(header)) + header + bytes(396))[:100])


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "module.pth": (lambda p: torch.save(torch.nn.Linear(2, 2), p), r"whole pickled model \(torch.nn.modules.linear"),
    "old.pth": (
        lambda p: torch.save(torch.nn.Linear(2, 2), p, _use_new_zipfile_serialization=False),
        r"whole pickled model \(torch.nn.modules.linear",
    ),
    "script.pt": (script, "TorchScript"),
    "protocol4.pth": (lambda p: torch.save(TENSORS, p, pickle_protocol=4), "protocol 4"),
    "plain.pkl": (lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=5)), "plain Python pickle"),
    "args.pth": (lambda p: torch.save({"model": TENSORS, "lr": Fraction(1)}, p), "fractions.Fraction"),
    "jax.npz": (lambda p: np.savez(p, a=np.zeros(3)), "NumPy archive"),
    "a.npy": (lambda p: np.save(p, np.zeros(3)), "NumPy array"),
    "a.keras": (keras, "Keras"),
    "a.h5": (of_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "HDF5"),
    "google.npz": (
        lambda p: np.savez(p, **{"Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel": np.zeros(3)}),
        "Google",
    ),
    "a.onnx": (of_bytes(b"\x08\x09\x12\x07pytorch"), "exported file"),
    "onnx.pth": (of_bytes(b"\x08\x0a\x12\x07pytorch" + bytes(50)), "exported file"),
    "graph.onnx.bin": (of_bytes(b"\x08\x0a\x3a\x8a\x01graph" + bytes(50)), "exported file"),
    "program.pt2": (exported, "torch.export saved"),
    "flax.msgpack": (of_bytes(b"\x81\xa6params\x81\xa7encoder" + bytes(50)), "msgpack"),
    "many.msgpack": (of_bytes(b"\xde\x00\x14\xa6params\x81\xa7encoder" + bytes(50)), "msgpack"),
    "a.gguf": (of_bytes(b"GGUF\x03" + bytes(50)), "GGUF"),
    "photo.pth": (of_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(50)), "an image"),
    "a.tar": (tar, "tar archive"),
    "arrays.pth": (lambda p: torch.save({"head.weight": np.zeros((2, 3))}, p), "NumPy arrays, not tensors"),
    "arrays.pkl": (lambda p: p.write_bytes(pickle.dumps({"a": np.zeros(3)}, protocol=2)), "NumPy arrays, not tensors"),
    "a.tflite": (of_bytes(b"\x1c\0\0\0TFL3" + bytes(50)), "exported file"),
    "lfs.safetensors": (of_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"),
    "page.pth": (of_bytes(b"\n <!DOCTYPE html><title>Sign in</title>"), "web page"),
    "denied.pth": (of_bytes(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "web page"),
    "comment.pth": (of_bytes(b"<!-- served --><html><title>404</title></html>"), "web page"),
    "openvino.xml": (of_bytes(b'<?xml version="1.0"?>\n<net name="Model0"></net>\n'), "text file"),
    "answer.pth": (of_bytes(b"Entry not found"), "begins: 'Entry not found'"),
    "download.pth.crdownload": (of_bytes(b"PK\x03\x04"), "download that did not end"),
    "cut.safetensors": (cut_short, r"cut short or corrupt: 100 of \d+ bytes"),
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


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_the_kind_is_told_without_reading_tensors(old: bool, tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a", _use_new_zipfile_serialization=not old)
    save_file(TENSORS, tmp_path / "b")
    assert (kind_of(tmp_path / "a"), kind_of(tmp_path / "b")) == (FileKind.TORCH, FileKind.SAFETENSORS)


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda rest: b"PK\x03\x04" + rest))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_kind_or_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    try:
        assert kind_of(path) in FileKind
    except InputError as error:
        assert str(path) in error.message and error.hint


def test_what_a_reader_says_is_shown_as_one_short_line(tmp_path: Path) -> None:
    said = damaged(tmp_path / "x.pth", "first\nsecond \x1b[31m" + "long " * 99).message
    assert "first second" in said and said.isprintable() and len(said) < 300 + len(str(tmp_path))
