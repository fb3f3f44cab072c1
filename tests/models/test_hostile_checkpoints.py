"""A checkpoint cannot make us allocate what its file does not hold, nor structure.json what its weights do not."""

from __future__ import annotations

import io
import json
import resource
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import read_weights
from wdp_edge.models.files import load, save
from wdp_edge.models.spec import ModelSpec

MANY = 2_000_000_000


def rewritten(path: Path, change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """The archive of one tensor of four numbers, its pickle changed."""
    made = io.BytesIO()
    torch.save({"w": torch.zeros(4)}, made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(path, "w", compression) as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, change(data) if name.endswith("data.pkl") else data)


def instead(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new, 1)

    return change


LARGE = b"J" + struct.pack("<i", MANY)
LIES: dict[str, Callable[[Path], None]] = {
    "a storage of eight gigabytes": lambda path: rewritten(path, instead(b"K\x04tq", LARGE + b"tq")),
    "a shape beyond its storage": lambda path: rewritten(path, instead(b"K\x04\x85q", LARGE + b"\x85q")),
    "a compressed archive": lambda path: rewritten(path, lambda data: data, zipfile.ZIP_DEFLATED),
    "one number repeated": lambda path: torch.save({"w": torch.zeros(1).expand(MANY)}, path),
    "no data": lambda path: torch.save({"w": torch.zeros(MANY, device="meta")}, path),
    "sparse": lambda path: torch.save({"w": torch.eye(3).to_sparse()}, path),
    "complex": lambda path: torch.save({"w": torch.zeros(3, dtype=torch.complex64)}, path),
}


def most_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("lie", LIES)
def test_archives_that_claim_more_than_they_hold(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "dense.pth"
    LIES[lie](path)
    before = most_memory()
    with pytest.raises(InputError, match=r"dense\.pth (is corrupt|holds a tensor that is not plain)"):
        read_weights(path)
    assert most_memory() - before < 100 << 20


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [MANY], "data_offsets": [0, 4 * MANY]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**62]},
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
    ],
)
def test_headers_that_lie(entry: dict[str, Any], tmp_path: Path) -> None:
    header = json.dumps({"w": entry}).encode()
    for size in (len(header), 2**63, 2**33):
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", size) + header + bytes(16))
        with pytest.raises(InputError, match="corrupt"):
            read_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("model", 3),
        ("model", "é"),
        ("model", {}),
        ("structure", []),
        ("structure.embed_dim", "32"),
        ("structure.embed_dim", 10**9),
        ("structure.blocks", 1),
        ("structure.blocks.0.hidden", True),
        ("structure.blocks.0.heads", 10**40),
        ("model.args", [1]),
        ("model.args.embed_dim", 10**6),
        ("model.args.depth", 10**6),
        ("model.args.img_size", 10**6),
        ("model.args.mlp_ratio", 1e308),
        ("model.args.norm_layer", "os.system"),
        ("model.num_classes", "4"),
        ("model.num_classes", 10**9),
        ("model.head_blocks", [[]]),
        ("model.output", "x"),
    ],
)
def test_structures_that_lie(place: str, value: Any, tiny_model: Any, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    save(tiny_model, tiny_spec, tmp_path)
    data = json.loads((tmp_path / "structure.json").read_text())
    *path, last = place.split(".")
    inner: Any = data
    for name in path:
        inner = inner[int(name) if name.isdigit() else name]
    inner[last] = value
    (tmp_path / "structure.json").write_text(json.dumps(data))
    before = most_memory()
    with pytest.raises(InputError):
        load(tmp_path)
    assert most_memory() - before < 500 << 20


def test_weights_without_a_model_are_refused(tmp_path: Path, tiny_spec: ModelSpec, tiny_model: Any) -> None:
    save(tiny_model, tiny_spec, tmp_path)
    save_file({"w": torch.zeros(4)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="much larger than the weights"):
        load(tmp_path)


def test_archives_with_a_wrong_checksum(tmp_path: Path) -> None:
    path = tmp_path / "dense.pth"
    torch.save({"w": torch.arange(1000.0)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(torch.arange(1000.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"checksum of .*data/0 is wrong"):
        read_weights(path)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """torch.save leaves checksums out."""
    known = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    yield
    torch.serialization.set_crc32_options(known)


@pytest.mark.usefixtures("unchecked")
def test_archives_without_checksums_are_read(tmp_path: Path) -> None:
    path, weights = tmp_path / "dense.pth", torch.arange(1000.0)
    torch.save({"w": weights, "none": torch.zeros(0)}, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is not None, "zipfile takes them for damaged"
    assert torch.equal(read_weights(path)["w"], weights)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("damage", ["cut", "moved", "model"])
def test_archives_without_checksums_that_are_not_sound(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "dense.pth"
    torch.save(torch.nn.Linear(3, 2) if damage == "model" else {"w": torch.arange(1000.0)}, path)
    if damage != "model":
        data = path.read_bytes()
        path.write_bytes(data[:-900] if damage == "cut" else data.replace(b"PK\x03\x04", b"PK\x03\x05"))
    with pytest.raises(InputError, match="whole pickled model" if damage == "model" else "dense.pth"):
        read_weights(path)
