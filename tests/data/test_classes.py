"""The order of class names, and images of some of the model's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from class_folders import write_classes
from timm.utils.misc import natural_key as timms

from wdp_edge.data.classes import absent, arranged, in_order, natural_key, settled
from wdp_edge.data.folder import scan
from wdp_edge.data.listed import images_at
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels, facts_of

NAMES = ("10", "9", "Apple", "banana", "Cherry", "b2", "b10", "x²")


def test_natural_order_is_timms_and_alphabetical_torchvisions() -> None:
    assert arranged(NAMES, "alphabetical") == tuple(sorted(NAMES))
    assert arranged(NAMES, "natural") == (*sorted(NAMES[:-1], key=timms), "x²")
    assert natural_key("b10") == timms("b10")
    assert arranged(("a", "A"), "natural") == arranged(("A", "a"), "natural")


def test_a_file_gives_an_order_and_may_name_more(tmp_path: Path) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text("\ufeffn03 hat, cap\nn01 cat\n\nn02 dog\n", encoding="utf-8")
    assert arranged(("n01", "n03"), str(path)) == ("n03", "n01", "n02")
    with pytest.raises(InputError, match="does not name the class 'n04'"):
        arranged(("n01", "n04"), str(path))
    path.write_text("a\nb\na\n")
    with pytest.raises(InputError, match="names the class 'a' twice"):
        arranged(("a", "b"), str(path))
    with pytest.raises(InputError, match=r"naturel cannot be read.*natural, or a text file"):
        arranged(("a", "b"), "naturel")


def test_images_keep_their_class_in_another_order(tmp_path: Path) -> None:
    folder = scan(write_classes(tmp_path / "train", {"2": 1, "10": 2}))
    assert folder.classes == ("10", "2") and folder.labels == (0, 0, 1)
    natural = in_order(folder, "natural")
    assert natural.classes == ("2", "10") and natural.labels == (0, 1, 1)
    assert natural.paths == ("2/000.png", "10/000.png", "10/001.png")
    assert in_order(folder, "alphabetical") == folder


def test_class_numbers_may_leave_out_classes_and_names_may_be_missing_from_validation(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2, "b": 1, "c": 1})
    (tmp_path / "train.csv").write_text("path,label\na/000.png,1\na/001.png,1\nb/000.png,3\n")
    (tmp_path / "val.csv").write_text("path,label\nb/000.png,3\nc/000.png,4\n")
    train, val = settled(images_at(tmp_path / "train.csv"), images_at(tmp_path / "val.csv"), 6)
    one, several = facts_of("classify"), facts_of("multilabel")
    assert train.classes == val.classes == ("0", "1", "2", "3", "4", "5")
    assert train.labels == (1, 1, 3) and val.labels == (3, 4)
    assert "4 of the model's 6 classes have no training images (0, 2, 4, …)" in absent(train, val, one)[0]
    with pytest.raises(InputError, match=r"class 4; the model's 4 classes are 0 to 3.*start at 1: subtract 1"):
        settled(train := images_at(tmp_path / "val.csv"), train, 4)
    with pytest.raises(InputError, match=r"class 3; the model's 2 classes are 0 to 1.*num_classes"):
        settled(images_at(tmp_path / "train.csv"), images_at(tmp_path / "val.csv"), 2)
    (tmp_path / "val.csv").write_text("path,label\na/000.png,a\nb/000.png,c\n")
    write_classes(tmp_path / "train", {"a": 1, "b": 1, "c": 1})
    train, val = settled(scan(tmp_path / "train"), images_at(tmp_path / "val.csv"), 3)
    assert val.classes == train.classes == ("a", "b", "c") and val.labels == (0, 2)
    assert absent(train, val, one) == [
        "1 of the model's 3 classes have no validation images (b): the final figures say nothing about them."
    ]
    assert absent(train, val, several) == [], "an image may show none of the classes"


def test_a_file_names_class_numbers(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "train.csv").write_text("path,label\na/000.png,2\nb/000.png,0\n")
    (tmp_path / "names.txt").write_text("zebra\nant\ncow\nbee\n")
    train = images_at(tmp_path / "train.csv")
    train, val = settled(train, train, 4, str(tmp_path / "names.txt"))
    assert train.classes == val.classes == ("zebra", "ant", "cow", "bee") and train.labels == (0, 2)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (("1.0", "10.0", "2.0"), tuple(map(str, range(11))), (1, 2, 10)),
        (("001", "010", "002"), ("001", "002", "010"), (0, 1, 2)),
        (("000", "002", "001"), ("0", "1", "2"), (0, 1, 2)),
        (("1", "x", "10"), ("1", "10", "x"), (0, 1, 2)),
    ],
)
def test_what_counts_as_a_class_number(
    tmp_path: Path, labels: tuple[str, ...], classes: tuple[str, ...], numbers: tuple[int, ...]
) -> None:
    write_classes(tmp_path, {"a": 3})
    rows = [f"a/{index:03d}.png, {label} " for index, label in enumerate(labels)]
    (tmp_path / "all.csv").write_text("path,label\n" + "\n".join(rows))
    found = images_at(tmp_path / "all.csv")
    assert found.classes == classes and found.labels == numbers


@pytest.mark.parametrize("label", ["-1", "999999"])
def test_numbers_that_no_class_has_are_refused(tmp_path: Path, label: str) -> None:
    write_classes(tmp_path, {"a": 2})
    (tmp_path / "all.csv").write_text(f"path,label\na/000.png,{label}\na/001.png,1\n")
    with pytest.raises(InputError, match=f"names class {label}"):
        images_at(tmp_path / "all.csv")


def test_tabs_semicolons_and_stray_values(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 2})
    path = tmp_path / "all.csv"
    for mark in ("\t", ";"):
        path.write_bytes(f'"path"{mark} label\r\na/000.png{mark}"x, y"\r\na/001.png{mark}z\r\n'.encode())
        assert images_at(path).classes == ("x, y", "z")
    path.write_text("path,label\na/000.png,x,y\na/001.png,z\n")
    with pytest.raises(InputError, match=r"line 2: there are more values than columns \(2\).*quotes"):
        images_at(path)


@pytest.mark.parametrize("mark", ["|", ",", "/", " "])
def test_other_separators_of_several_labels_are_named(tmp_path: Path, mark: str) -> None:
    write_classes(tmp_path, {"a": 3})
    path = tmp_path / "all.csv"
    labels = [f"dog{mark}cat", f"cat{mark}dog", "dog"]
    rows = "".join(f'a/{index:03d}.png,"{label}"\n' for index, label in enumerate(labels))
    path.write_text("path,label\n" + rows)
    with pytest.raises(InputError, match=r"No row of .* has two classes: its labels hold no ;, but .*separated by ;"):
        images_at(path, Labels.MANY)
    path.write_text("path,label\n" + rows.replace('"dog"', '"dog;"'))
    assert f"dog{mark}cat" in images_at(path, Labels.MANY).classes


def test_names_with_spaces_and_commas_are_names(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 3})
    path = tmp_path / "all.csv"
    path.write_text('path,label\na/000.png,hot dog\na/001.png,"tench, Tinca"\na/002.png,cat\n')
    assert images_at(path, Labels.MANY).classes == ("cat", "hot dog", "tench, Tinca")
