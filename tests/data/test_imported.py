"""Datasets of timm become lists and images: real torchvision, Hugging Face and WebDataset files, written here."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from wdp_edge.data import imported
from wdp_edge.data.imported import class_names, class_number, encoded, import_split
from wdp_edge.data.listed import read_list
from wdp_edge.errors import InputError, SetupError


def pictures(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


def write_mnist(root: Path, part: str, count: int) -> np.ndarray:
    """Files as torchvision's FashionMNIST reads them."""
    folder, found = root / "FashionMNIST" / "raw", pictures(count, 28, 28)
    folder.mkdir(parents=True, exist_ok=True)
    labels = bytes(number % 3 for number in range(count))
    (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + found.tobytes())
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels)
    return found


def rows_of(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["path"], row["label"]) for row in csv.DictReader(file)]


def test_torchvision(tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        wanted = write_mnist(tmp_path / "raw", part, 6)
    found = import_split("torch/fashion_mnist", "test", tmp_path / "out", tmp_path / "raw")
    assert found.images == 6 and found.list == tmp_path / "out/test.csv" and found.classes[0] == "T-shirt/top"
    rows = rows_of(found.list)
    # The names are not in alphabetical order: numbers keep the classes where the model has them.
    assert [label for _, label in rows] == ["0", "1", "2", "0", "1", "2"]
    assert rows[4][0] == "images/test/0000004.png"
    with Image.open(tmp_path / "out" / rows[4][0]) as image:
        assert np.array_equal(np.asarray(image), wanted[4])
    folder = read_list(found.list)
    assert len(folder) == 6 and folder.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("names", "labels", "wanted"),
    [
        (["a", "b"], ["a", "b"], ["a", "b"]),
        (["0", "1", "10", "2"], ["0", "1", "10", "2"], ["0", "1", "2", "3"]),
        (["b", "c", "d"], ["b", "d"], ["0", "2"]),
        (["b ", "c"], ["b ", "c"], ["0", "1"]),
    ],
)
def test_labels_are_read_back_with_the_numbers_of_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], labels: list[str], wanted: list[str]
) -> None:
    """FAKE: a dataset as timm gives it, of which only the names matter here."""
    pictures_and_labels = [(Image.new("RGB", (8, 8)), names.index(label)) for label in labels]

    class Dataset(list[Any]):
        class_to_idx: ClassVar = {name: number for number, name in enumerate(names)}

    monkeypatch.setattr(imported, "open_split", lambda *_: Dataset(pictures_and_labels))
    found = import_split("torch/any", "train", tmp_path / "out")
    assert [label for _, label in rows_of(found.list)] == wanted
    folder = read_list(found.list)
    assert list(folder.labels) == [names.index(label) for label in labels]


def test_hugging_face_images_are_copied_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    source = tmp_path / "source/train"
    for name, picture in zip("abab", pictures(4, 8, 8, 3), strict=True):
        (source / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(source / name / f"{len(list(source.glob('*/*')))}.jpg")
    found = import_split(f"hfds/{tmp_path / 'source'}", "train", tmp_path / "out", tmp_path / "cache")
    assert found.images == 4 and found.classes == ("a", "b")
    rows = rows_of(found.list)
    assert sorted(label for _, label in rows) == ["a", "a", "b", "b"]
    originals = {path.read_bytes(): path.parent.name for path in source.glob("*/*.jpg")}
    assert {(tmp_path / "out" / path).read_bytes(): label for path, label in rows} == originals


def write_shard(path: Path, count: int, broken: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, picture in enumerate(pictures(count, 8, 8, 3)):
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "PNG")
            content = b"nothing" if number == broken else file.getvalue()
            for suffix, data in (("png", content), ("cls", str(number % 2).encode())):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    split = {"name": "train", "num_samples": count, "filenames": [path.name], "shard_lengths": [count]}
    (path.parent / "_info.json").write_text(json.dumps({"splits": {"train": split}}))


def test_webdataset(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shard(tmp_path / "shards/train-0000.tar", 5)
    found = import_split("wds/shards", "train", tmp_path / "out", tmp_path / "shards")
    assert found.images == 5 and found.classes == ()
    assert sorted(label for _, label in rows_of(found.list)) == ["0", "0", "0", "1", "1"]


def test_images_that_timm_skips_are_not_lost_unseen(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    write_shard(tmp_path / "shards/train-0000.tar", 5, broken=2)
    with pytest.raises(InputError, match="gave 4 images of split train, not 5"):
        import_split("wds/shards", "train", tmp_path / "out", tmp_path / "shards")
    assert not (tmp_path / "out/train.csv").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", "t10k", 3)
    write_mnist(tmp_path / "raw", "train", 3)
    import_split("torch/fashion_mnist", "test", tmp_path / "out", tmp_path / "raw")
    with pytest.raises(InputError, match="exists"):
        import_split("torch/fashion_mnist", "test", tmp_path / "out", tmp_path / "raw")


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar10", "train", "is not a timm dataset"),
        ("torch/nothing", "train", "cannot open split train of torch/nothing"),
        ("torch/cifar10", "train", "cannot open split train of torch/cifar10"),
        ("torch/cifar10", "../train", "cannot be the name of a list"),
    ],
)
def test_what_cannot_be_had_is_refused(name: str, split: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        import_split(name, split, tmp_path / "out", tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path / "raw", "train", 3)
    images = tmp_path / "raw/FashionMNIST/raw/train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:100])
    (tmp_path / "raw/FashionMNIST/raw/t10k-images-idx3-ubyte").write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match="cannot open split train"):
        import_split("torch/fashion_mnist", "train", tmp_path / "out", tmp_path / "raw")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm.data.readers.reader_wds", None)
    write_shard(tmp_path / "shards/train-0000.tar", 2)
    with pytest.raises(SetupError, match="not installed"):
        import_split("wds/shards", "train", tmp_path / "out", tmp_path / "shards")


def test_labels_of_another_kind_are_refused() -> None:
    assert class_number(np.int64(3), "x") == 3
    for label in ([1, 2], "cat", -1, None):
        with pytest.raises(InputError):
            class_number(label, "x")


def test_names_are_taken_only_when_every_number_has_one() -> None:
    assert class_names(SimpleNamespace(class_to_idx={"b": 0, "a": 1})) == ("b", "a")
    assert class_names(SimpleNamespace(class_to_idx={"a": 0, "c": 2})) == () == class_names(object())


def test_images_are_kept_as_files_that_can_be_read() -> None:
    for mode in ("CMYK", "I;16", "YCbCr", "RGBA"):
        content, suffix = encoded(Image.new(mode, (4, 4)))
        assert suffix == ".png" and Image.open(io.BytesIO(content)).size == (4, 4)
    with pytest.raises(InputError, match=r"cannot be saved: its pixels .* of unknown range"):
        encoded(Image.new("F", (4, 4)))
