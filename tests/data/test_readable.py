"""Unreadable images are counted, named and left out up to a limit."""

from __future__ import annotations

import contextvars
from pathlib import Path

import pytest
from class_folders import write_classes

from wdp_edge import progress
from wdp_edge.data.folder import scan
from wdp_edge.data.loading import find_unreadable, readable
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import InputError

HALF = (0.5, 0.5, 0.5)
PREPROCESSING = Preprocessing((16, 16), HALF, HALF, "bicubic", 0.9)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five cats and 70 dogs; a cat is no image, and a dog's file ends half-way, which its header does not tell."""
    write_classes(tmp_path, {"cat": 5, "dog": 70})
    (tmp_path / "cat/001.png").write_text("no image")
    whole = (tmp_path / "dog/066.png").read_bytes()
    (tmp_path / "dog/066.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_they_are_found_and_left_out(root: Path, workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scan(root)
    assert set(find_unreadable(folder, PREPROCESSING, workers)) == {"cat/001.png", "dog/066.png"}
    left = readable(folder, PREPROCESSING, 2, workers)
    assert len(left) == 73 and left.classes == folder.classes
    assert not {"cat/001.png", "dog/066.png"} & set(left.paths)
    assert all(left.classes[c] == p.split("/")[0] for p, c in zip(left.paths, left.labels, strict=True))


def test_one_more_than_allowed_is_an_error_that_names_them(root: Path) -> None:
    with pytest.raises(
        InputError, match=r"2 images in .*cat/001.png.*dog/066.png.*max_unreadable in \[data\] allows 1"
    ):
        readable(scan(root), PREPROCESSING, 1, 0)


def test_nothing_is_looked_at_without_a_limit(root: Path) -> None:
    assert readable(scan(root), PREPROCESSING, 0, 0) == scan(root)


def test_a_class_must_not_lose_all_its_images(root: Path) -> None:
    for path in (root / "cat").iterdir():
        path.write_text("no image")
    with pytest.raises(InputError, match="No image of class 'cat'"):
        readable(scan(root), PREPROCESSING, 10, 0)


def test_names_are_said_as_they_are(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Brackets, emoji codes, controls, line ends and bytes that are not UTF-8: nothing is read as markup or obeyed."""
    names = ["photo [copy] 1.jpg", "scan[bold red].jpg", ":warning: \x1b[31m\nhint: pay.jpg"]
    for name in names:
        (root / "cat/001.png").rename(root / "cat" / name)
        (root / "cat/001.png").write_text("no image")
    (root / "cat/001.png").unlink()
    contextvars.copy_context().run(told, root)
    said = capfd.readouterr().err
    assert "photo [copy] 1.jpg (" in said and "scan[bold red].jpg (" in said
    assert ":warning: \\x1b[31m\\nhint: pay.jpg (" in said
    assert len([line for line in said.splitlines() if "hint" in line]) == 1 and "\x1b[31m" not in said


def told(root: Path) -> None:
    """Reads the folder with progress on standard error, here and not in other tests."""
    progress.use(progress.Bars())
    (root / "dog/066.png").unlink()
    readable(scan(root), PREPROCESSING, 5, 0)
