"""data/unlabelled.py: where nothing tells what images show, and how they are parted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from class_folders import write_classes, write_image

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.unlabelled import is_pattern, is_unlabelled, matching, parted
from wdp_edge.errors import InputError


def flat(root: Path, count: int) -> ImageFolder:
    """Files with contents of their own; images they need not be."""
    root.mkdir(parents=True)
    names = tuple(f"{number:05}.jpg" for number in range(count))
    for name in names:
        (root / name).write_text(name)
    return ImageFolder(root, (), names, (0,) * count)


def test_folders_are_classes_unless_images_lie_beside_a_single_one_or_outnumber_them(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 2, "dog": 2})
    assert not is_unlabelled(tmp_path)
    write_image(tmp_path / "stray.png")
    assert not is_unlabelled(tmp_path) and is_unlabelled(tmp_path / "cat")
    for number in range(4):
        write_image(tmp_path / f"{number}.png")
    assert is_unlabelled(tmp_path)
    (tmp_path / "photos/thumbs").mkdir(parents=True)
    assert not is_unlabelled(tmp_path / "photos") and not is_unlabelled(tmp_path / "missing")
    write_image(tmp_path / "photos/1.png")
    assert is_unlabelled(tmp_path / "photos")


@pytest.mark.parametrize(
    ("text", "bare"),
    [("path\na.png\n", True), ("path,label\na.png,\n", True), ("path,label\na.png,\nb.png,cat\n", False)],
)
def test_a_list_has_labels_where_some_row_has_one(tmp_path: Path, text: str, bare: bool) -> None:
    (tmp_path / "all.csv").write_text(text)
    assert is_unlabelled(tmp_path / "all.csv") == bare


def test_patterns(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 1, "dog": 2})
    (tmp_path / "cat/notes.txt").touch()
    assert len(matching(tmp_path / "*/*")) == len(matching(tmp_path / "**/*.png")) == 3
    assert matching(tmp_path / "dog/*.png").root == tmp_path / "dog"
    assert not is_pattern(tmp_path / "cat") and is_pattern(tmp_path / "c?t")
    (tmp_path / "c[a]t").mkdir()
    assert not is_pattern(tmp_path / "c[a]t")
    with pytest.raises(InputError, match="No image is called like"):
        matching(tmp_path / "*.jpg")


@pytest.mark.parametrize("count", [20, 51, 99, 1234])
def test_a_fifth_is_to_judge_by_in_runs_and_nothing_is_lost(tmp_path: Path, count: int) -> None:
    train, val, again = parted(flat(tmp_path / "photos", count))
    assert sorted(train + val) == list(range(count)) and not again
    assert 0.15 * count <= len(val) <= 0.25 * count
    borders = sum(later - earlier > 1 for earlier, later in pairwise(val))
    assert borders <= 10


def test_copies_stay_together(tmp_path: Path) -> None:
    images = flat(tmp_path / "photos", 50)
    train, val, _ = parted(images)
    for other in val[1:4]:
        (images.root / images.paths[other]).write_bytes((images.root / images.paths[train[0]]).read_bytes())
    again = parted(images)
    assert again[2] == 3 and again[1] == [val[0], *val[4:]] and set(val[1:4]) <= set(again[0])


def test_too_few_to_part(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 19 images without labels, too few"):
        parted(flat(tmp_path / "photos", 19))
