"""Folders of images: classes, what is wrong with them, and that validation is not training."""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from class_folders import write_classes, write_image

from wdp_edge.data.folder import check_apart, check_classes, contents, fingerprint, resolve_data, scan
from wdp_edge.data.listed import images_at, scan_pairs
from wdp_edge.data.walk import counted
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels


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


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({}, "no class folders"),
        ({"a": 0, "b": 0}, "holds no images"),
        ({"a": 2}, "only one class, 'a'"),
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
    with pytest.raises(InputError, match=r"does not hold train/ and one of val/.*otherwise\.$"):
        resolve_data(tmp_path)
    with pytest.raises(InputError, match=r"otherwise, or say so\.$"):
        resolve_data(tmp_path, otherwise=", or say so")


@pytest.mark.parametrize("names", [("Train", "Val"), ("TRAIN", "Test"), ("train", "Validation")])
def test_the_two_are_found_in_any_case(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    assert resolve_data(tmp_path) == (tmp_path / names[0], tmp_path / names[1])
    (tmp_path / "val").mkdir()
    assert resolve_data(tmp_path)[1] == tmp_path / "val"


def test_lists_are_found_in_any_case(tmp_path: Path) -> None:
    for name in ("Train.CSV", "VAL.parquet"):
        (tmp_path / name).touch()
    assert resolve_data(tmp_path) == (tmp_path / "Train.CSV", tmp_path / "VAL.parquet")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("data.zip", "data.zip is an archive, not a folder. Unpack it."),
        ("data.tar.gz", "data.tar.gz is an archive"),
        ("train.csv", "train.csv is a list of images, not a folder."),
        ("notes", "notes is a file, not a folder."),
        ("", "nothing does not exist."),
    ],
)
def test_what_is_no_folder_is_called_what_it_is(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / (name or "nothing")
    if name:
        path.touch()
    for look in (resolve_data, scan, scan_pairs):
        if look is scan_pairs and name.endswith(".csv"):
            continue  # says that lists have no masks
        with pytest.raises(InputError) as error:
            look(path)
        assert says in str(error.value)


def test_a_folder_called_like_a_list_is_a_folder(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "cats.csv", {"a": 1, "b": 1})
    assert images_at(root) == scan(root)


def test_files_that_are_left_out_are_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 2})
    for name in ("a/1.HEIC", "a/inner/2.heic", "b/3.heic", "b/README", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    write_image(tmp_path / "top.png")
    (tmp_path / "classes.txt").write_text("a b")
    left = scan(tmp_path).left_out
    assert dict(left) == {".heic": 3, "": 1, ".txt": 1, ".png beside the class folders": 1}
    assert left[0] == (".heic", 3)
    assert counted(Counter(dict(left))).startswith("6 files (3 .heic, 1 ")
    assert dict(scan(tmp_path, Labels.NONE).left_out) == {".heic": 3, "": 1, ".txt": 2}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a/1.heic", "b/2.heic"], r"in its class folders, but 2 files \(2 \.heic\)"),
        (["1.png", "2.png"], r"no class folders, but 2 files \(2 \.png beside the class folders\)"),
        (["a/1.png", "b/2.heic"], r"1 class folder \('b'\) in .* without images, but with 1 file \(1 \.heic\)"),
        (["all/a/1.png", "all/b/1.png"], r"only one class, 'all'\. If the classes are folders in .*all, name that one"),
    ],
)
def test_a_folder_without_images_is_told_what_it_holds(tmp_path: Path, names: list[str], says: str) -> None:
    for name in names:
        if name.endswith("png"):
            write_image(tmp_path / name)
            continue
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=says):
        scan(tmp_path)


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_a_class_must_have_a_name_that_can_be_written(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, os.fsdecode(b"caf\xe9"): 1})
    with pytest.raises(InputError, match="is not UTF-8"):
        scan(tmp_path)


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
    with pytest.raises(InputError, match=r"a/001\.png can no longer be read"):
        fingerprint(folder)


def test_class_counts_must_fit_the_model(tmp_path: Path) -> None:
    train = scan(write_classes(tmp_path / "train", {"a": 1, "b": 1}))
    val = scan(write_classes(tmp_path / "val", {"a": 1, "b": 1}))
    check_classes(train, val, 2)
    with pytest.raises(InputError, match=r"holds 2 classes, the model has 10\. .*num_classes"):
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


def test_validation_images_are_not_training_images(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 2, "dog": 1})
    write_classes(tmp_path / "val", {"cat": 1, "dog": 1})
    train = scan(tmp_path / "train")
    check_apart(train, scan(tmp_path / "val"))  # of the same names, and other files
    (tmp_path / "link").symlink_to(tmp_path / "train", target_is_directory=True)
    for same in (tmp_path / "train", tmp_path / "link"):
        with pytest.raises(InputError, match=r"All 3 validation images .* are also training images") as said:
            check_apart(train, scan(same))
    assert "--val" in said.value.hint_for({"--val"}) and "--val" not in said.value.hint
    shutil.rmtree(tmp_path / "val/cat")
    (tmp_path / "val/cat").symlink_to(tmp_path / "train/cat", target_is_directory=True)
    with pytest.raises(InputError, match="2 of the 3 validation images"):
        check_apart(train, scan(tmp_path / "val"))


@pytest.mark.parametrize("link", ["symbolic", "hard", "chain"])
@pytest.mark.parametrize("place", ["val", "val.csv"])
def test_a_single_image_in_both_is_seen_through_any_link(tmp_path: Path, link: str, place: str) -> None:
    write_classes(tmp_path / "train", {"cat": 2, "dog": 1})
    write_classes(tmp_path / "val", {"cat": 1, "dog": 1})
    original, other = tmp_path / "train/cat/001.png", tmp_path / "val/dog/renamed.png"
    if link == "hard":
        other.hardlink_to(original)
    else:
        (tmp_path / "between").symlink_to(original)
        other.symlink_to(tmp_path / "between" if link == "chain" else original)
    (tmp_path / "val.csv").write_text("path,label\nval/cat/000.png,cat\nval/dog/renamed.png,dog\n")
    said = r"1 of the \d validation images .*dog/renamed.png is the same file as .*train/cat/001.png"
    with pytest.raises(InputError, match=said):
        check_apart(scan(tmp_path / "train"), images_at(tmp_path / place))


def test_two_names_of_one_image_within_a_folder_are_allowed(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_classes(tmp_path / name, {"cat": 1, "dog": 1})
        (tmp_path / name / "dog/again.png").hardlink_to(tmp_path / name / "dog/000.png")
    check_apart(scan(tmp_path / "train"), scan(tmp_path / "val"))


def test_an_edit_that_keeps_the_size_changes_the_contents(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 2, "dog": 1})
    (tmp_path / "dog/000.png").write_bytes(b"a" * 300_000)
    folder = scan(tmp_path)
    before = fingerprint(folder), contents(folder)
    (tmp_path / "dog/000.png").write_bytes(b"a" * 299_999 + b"b")
    assert fingerprint(folder) == before[0] and contents(folder) != before[1]
