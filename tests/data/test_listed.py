"""Images listed in CSV and Parquet files."""

from __future__ import annotations

from pathlib import Path

import pytest
from class_folders import write_classes
from hypothesis import given
from hypothesis import strategies as s

from wdp_edge.data.folder import check_classes, fingerprint, resolve_data, scan
from wdp_edge.data.listed import images_at, read_list
from wdp_edge.data.loading import find_unreadable, labels_of
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels

PREPROCESSING = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("images"), {"cat": 3, "dog": 2, "10": 1})


def listed(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_the_same_as_class_folders(images: Path) -> None:
    folders = scan(images)
    rows = [f"{p},{folders.classes[c]}" for p, c in zip(folders.paths, folders.labels, strict=True)]
    found = images_at(
        listed(images, "\ufeffpath,label,source\n" + "\n".join(f"{r},x" for r in reversed(rows)) + "\n\n")
    )
    assert found == folders
    assert fingerprint(found) == fingerprint(folders)


def test_a_parquet_file_is_the_same_as_csv(images: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"label": [1, 0, 1], "path": ["cat/000.png", "dog/000.png", "./dog/001.png"], "more": [None] * 3}
    parquet.write_table(pa.table(columns), images / "list.parquet")
    found = images_at(images / "list.parquet")
    assert found == read_list(listed(images, "path,label\ncat/000.png,1\ndog/000.png,0\ndog/001.png,1\n"))
    assert found.classes == ("0", "1") and found.labels == (0, 1, 1)
    (images / "list.parquet").write_bytes(b"PAR1 nothing more")
    with pytest.raises(InputError, match="as Parquet"):
        images_at(images / "list.parquet")


def test_absolute_paths_below_the_list_are_taken(images: Path) -> None:
    found = read_list(listed(images, f"path,label\n{images}/cat/000.png,a\n{images}/dog/000.png,b\n"))
    assert found.paths == ("cat/000.png", "dog/000.png")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no column 'path'; it has: none"),
        ("file,label\na.png,1\n", "no column 'path'; it has: file, label"),
        ("path,label\n", "lists no images"),
        ("path,label\ncat/000.png,\ndog/000.png,b\n", "Row 1 of .* has no label"),
        ("path,label\ncat/000.png,a\n", "only one class"),
        ("path,label\ncat/000.png,a\ndog/000.png,b\n./cat/000.png,b\n", "lists 'cat/000.png' 2 times"),
        ("path,label\ncat/000.png,a\n../dog/000.png,b\n", "not in"),
        ("path,label\n/etc/passwd,a\ndog/000.png,b\n", "not in"),
        ("path,label\n.,a\ndog/000.png,b\n", "not an image"),
        ("path,label\ncat/000.png,a\ndog/009.png,b\n", "1 images of .* do not exist.*dog/009.png"),
        ('path,label\n"cat/000.png,a\ndog/000.png,b\n', "cannot be read as CSV"),
    ],
)
def test_bad_lists_are_refused_with_the_reason(images: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_list(listed(images, text))


@pytest.mark.parametrize(
    "name",
    [
        "../outside/1.png",
        "cat/../../outside/1.png",
        "away/../../outside/1.png",
        "{root}/../outside/1.png",
        "{outside}/1.png",
        "//{outside}/1.png",
        "..",
    ],
)
def test_no_path_of_a_list_leaves_its_folder(tmp_path: Path, name: str) -> None:
    root, outside = write_classes(tmp_path / "root", {"cat": 1, "dog": 1}), tmp_path / "outside"
    outside.mkdir()
    (outside / "1.png").write_bytes((root / "cat/000.png").read_bytes())
    (root / "away").symlink_to(outside)
    name = name.format(root=root, outside=outside)
    with pytest.raises(InputError, match="which is not in"):
        read_list(listed(root, f"path,label\n{name},cat\ndog/000.png,dog\n"))


@pytest.mark.parametrize(
    "name", ["cat/0\0.png", "cat/000.png\0", "\0", "cat\n/000.png", "cat/\x1b[2J.png", "a" * 5000 + ".png"]
)
def test_odd_paths_of_a_list_are_named(images: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"do not exist|is not an image|cannot be read as CSV|is not in"):
        read_list(listed(images, f'path,label\n"{name}",cat\ndog/000.png,dog\n'))


def test_links_in_the_folder_are_followed(tmp_path: Path) -> None:
    root, elsewhere = write_classes(tmp_path / "root", {"dog": 1}), write_classes(tmp_path / "elsewhere", {"cat": 1})
    (root / "linked").symlink_to(elsewhere / "cat")
    (root / "one.png").symlink_to(elsewhere / "cat/000.png")
    found = read_list(listed(root, "path,label\nlinked/000.png,cat\none.png,cat\ndog/000.png,dog\n"))
    assert found.paths == ("linked/000.png", "one.png", "dog/000.png")
    assert find_unreadable(found, PREPROCESSING, 0) == {}


def test_names_with_line_breaks_are_names(images: Path) -> None:
    path = images / "cat/two\nlines.png"
    path.write_bytes((images / "cat/000.png").read_bytes())
    found = read_list(listed(images, 'path,label\n"cat/two\nlines.png",cat\ndog/000.png,dog\n'))
    path_found = found.paths[0]
    assert path_found == "cat/two\nlines.png" and find_unreadable(found, PREPROCESSING, 1) == {}
    path.unlink()


@given(s.text(max_size=60))
def test_any_text_is_a_list_or_an_input_error(images: Path, text: str) -> None:
    path = images / "any.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError):
        read_list(path)


def test_without_labels_paths_are_enough(images: Path) -> None:
    found = images_at(listed(images, "path\ndog/000.png\ncat/000.png\n"), Labels.NONE)
    assert (found.classes, found.paths, found.labels) == ((), ("cat/000.png", "dog/000.png"), (0, 0))
    with pytest.raises(InputError, match="no column 'label'"):
        images_at(images / "list.csv")


def test_several_labels_are_separated_by_semicolons(images: Path) -> None:
    text = "path,label\ncat/000.png,red; round\ncat/001.png,\ncat/002.png,round;round\ndog/000.png,round;blue\n"
    found = images_at(listed(images, text), Labels.MANY)
    assert found.classes == ("blue", "red", "round")
    # In the order of each image's rarest class; images without any come last.
    assert found.paths == ("dog/000.png", "cat/000.png", "cat/002.png", "cat/001.png")
    assert found.several == ((0, 2), (1, 2), (2,), ()) and found.labels == (0, 1, 2, 3)
    assert found.by_class() == [[0], [1], [2], [3]] and found.present() == {0, 1, 2}
    assert labels_of(found, [3, 0]).tolist() == [[0, 0, 0], [1, 0, 1]]
    assert found.subset([1, 3]).several == ((1, 2), ())
    other = images_at(listed(images, text.replace("; round", "")), Labels.MANY)
    assert fingerprint(other) != fingerprint(found)


def test_several_whole_numbers_may_leave_classes_out(images: Path) -> None:
    found = images_at(listed(images, "path,label\ncat/000.png,3;0\ndog/000.png,0\n"), Labels.MANY)
    assert found.classes == ("0", "1", "2", "3") and found.several == ((0,), (0, 3))


def test_a_part_that_lacks_classes_gets_the_numbers_of_the_whole(images: Path) -> None:
    found = images_at(listed(images, "path,label\ncat/000.png,b;c\ndog/000.png,c\ndog/001.png,\n"), Labels.MANY)
    whole = found.with_classes(("a", "b", "c", "d"))
    assert (whole.several, whole.labels) == (((1, 2), (2,), ()), (1, 2, 4))
    assert labels_of(whole, [0]).tolist() == [[0, 1, 1, 0]]
    assert found.with_classes(("a", "b")) == found
    with pytest.raises(InputError, match="adds 1 class"):
        check_classes(images_at(listed(images, "path,label\ncat/000.png,a;b\n"), Labels.MANY), found, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,label\ncat/000.png,\n", "holds no classes"),
        ("path,label\ncat/000.png,a;\n", "only one class, 'a'"),
        ("path,label\ncat/000.png,99999999999\n", "names class 99999999999"),
    ],
)
def test_bad_lists_of_several_labels_are_refused(images: Path, text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_list(listed(images, text), Labels.MANY)


def test_folders_hold_one_class_per_image_and_lists_are_taken_first(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot say that an image shows several"):
        images_at(images, Labels.MANY)
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        (tmp_path / f"{part}.csv").touch()
    assert resolve_data(tmp_path, Labels.MANY)[0] == tmp_path / "train.csv"
    assert resolve_data(tmp_path)[0] == tmp_path / "train"


def test_lists_are_found_beside_folders(images: Path, tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"cat": 1, "dog": 1})
    (tmp_path / "val.csv").write_text("path,label\ntrain/cat/000.png,cat\ntrain/dog/000.png,dog\n")
    training, validation = resolve_data(tmp_path)
    assert (training, validation) == (tmp_path / "train", tmp_path / "val.csv")
    check_classes(images_at(training), images_at(validation), 2)
