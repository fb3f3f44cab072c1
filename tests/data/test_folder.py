from __future__ import annotations

import os
from pathlib import Path

import pytest
from class_folders import write_classes, write_image

from wdp_edge.data.folder import check_classes, fingerprint, resolve_data, scan
from wdp_edge.errors import InputError
from wdp_edge.task import Labels


def test_finds_every_image_by_class_in_order(tmp_path: Path) -> None:
    write_classes(tmp_path, {"dog": 2, "cat": 3})
    write_image(tmp_path / "cat" / "inner" / "x.JPG")
    folder = scan(tmp_path)
    assert folder.classes == ("cat", "dog")
    assert folder.paths == (
        "cat/000.png",
        "cat/001.png",
        "cat/002.png",
        "cat/inner/x.JPG",
        "dog/000.png",
        "dog/001.png",
    )
    assert folder.labels == (0, 0, 0, 0, 1, 1)
    assert folder.by_class() == [[0, 1, 2, 3], [4, 5]]
    assert folder.by_class([5, 2]) == [[2], [5]]


def test_ignores_hidden_names_and_other_files(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1, ".cache": 2})
    write_image(tmp_path / "a" / ".thumbnails" / "1.png")
    write_image(tmp_path / "a" / ".2.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "top.png").write_bytes(b"not in a class folder")
    assert scan(tmp_path).paths == ("a/000.png", "b/000.png")


def test_follows_links_out_of_the_folder_and_survives_loops(tmp_path: Path) -> None:
    write_classes(tmp_path / "elsewhere", {"a": 2})
    write_classes(tmp_path / "data", {"b": 1})
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "data" / "b" / "again").symlink_to(tmp_path / "data" / "b")
    assert scan(tmp_path / "data").paths == ("a/000.png", "a/001.png", "b/000.png")


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "no class folders"),
        ({"a": 0, "b": 0}, "holds no images"),
        ({"a": 2}, "one class only, 'a'"),
        ({"a": 1, "b": 0, "c": 0}, "2 class folders ('b', 'c')"),
    ],
)
def test_says_what_is_wrong_with_a_folder(tmp_path: Path, counts: dict[str, int], says: str) -> None:
    for name in counts:
        (tmp_path / name).mkdir()
    write_classes(tmp_path, counts)
    with pytest.raises(InputError) as error:
        scan(tmp_path)
    assert says in error.value.message
    assert str(tmp_path) in error.value.message


def test_names_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        scan(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_names_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be read"):
            scan(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o755)


@pytest.mark.parametrize("name", ["val", "validation", "test"])
def test_resolves_the_two_folders(tmp_path: Path, name: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / name).mkdir()
    assert resolve_data(tmp_path) == (tmp_path / "train", tmp_path / name)


def test_val_goes_before_test(tmp_path: Path) -> None:
    for name in ("train", "test", "val"):
        (tmp_path / name).mkdir()
    assert resolve_data(tmp_path)[1] == tmp_path / "val"


@pytest.mark.parametrize("present", [[], ["train"], ["val"]])
def test_names_what_the_data_folder_must_hold(tmp_path: Path, present: list[str]) -> None:
    for name in present:
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"does not hold train/ and one of val/.*--train"):
        resolve_data(tmp_path)


def test_fingerprint_follows_names_and_sizes_but_not_the_place(tmp_path: Path) -> None:
    first = fingerprint(scan(write_classes(tmp_path / "one", {"a": 2, "b": 1})))
    assert fingerprint(scan(write_classes(tmp_path / "two", {"a": 2, "b": 1}))) == first
    with (tmp_path / "two" / "a" / "000.png").open("ab") as file:
        file.write(b"x")
    changed = fingerprint(scan(tmp_path / "two"))
    (tmp_path / "one" / "b" / "000.png").rename(tmp_path / "one" / "b" / "001.png")
    renamed = fingerprint(scan(tmp_path / "one"))
    assert len({first, changed, renamed}) == 3


def test_fingerprint_names_a_vanished_image(tmp_path: Path) -> None:
    folder = scan(write_classes(tmp_path, {"a": 2, "b": 1}))
    (tmp_path / "a" / "001.png").unlink()
    with pytest.raises(InputError, match=r"a/001\.png cannot be read any more"):
        fingerprint(folder)


def test_class_counts_must_fit_the_model(tmp_path: Path) -> None:
    train = scan(write_classes(tmp_path / "train", {"a": 1, "b": 1}))
    val = scan(write_classes(tmp_path / "val", {"a": 1, "b": 1}))
    check_classes(train, val, 2)
    with pytest.raises(InputError, match=r"holds 2 classes, the model has 10\. .*--num-classes"):
        check_classes(train, val, 10)


def test_validation_must_hold_the_training_classes(tmp_path: Path) -> None:
    train = scan(write_classes(tmp_path / "train", {"a": 1, "b": 1}))
    val = scan(write_classes(tmp_path / "val", {"a": 1, "c": 1}))
    with pytest.raises(InputError, match=r"lacks 1 class folder \('b'\) and adds 1 class folder \('c'\)"):
        check_classes(train, val, 2)


def test_without_labels_every_image_below_the_folder_counts(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, ".cache": 1})
    write_image(tmp_path / "top.png")
    write_image(tmp_path / "b" / "inner" / "x.JPG")
    folder = scan(tmp_path, Labels.NONE)
    assert folder.paths == ("a/000.png", "a/001.png", "b/inner/x.JPG", "top.png")
    assert folder.classes == () and folder.labels == (0,) * 4
    assert folder.by_class() == [[0, 1, 2, 3]] and folder.by_class([3, 1]) == [[3, 1]]
    labelled = scan(write_classes(tmp_path / "other", {"a": 2, "b": 1}))
    assert fingerprint(scan(tmp_path / "other", Labels.NONE)) != fingerprint(labelled)


@pytest.mark.parametrize(("images", "says"), [(0, "holds no images"), (1, "holds one image")])
def test_without_labels_there_must_be_images(tmp_path: Path, images: int, says: str) -> None:
    write_classes(tmp_path, {"a": images})
    with pytest.raises(InputError, match=says):
        scan(tmp_path, Labels.NONE)
