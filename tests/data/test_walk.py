"""Files below a folder: what is an image, what is passed over, and what would be waited for."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections import Counter
from pathlib import Path

import pytest
from class_folders import write_classes, write_image
from hypothesis import given
from hypothesis import strategies as st

from wdp_edge.data.folder import scan
from wdp_edge.data.listed import images_at
from wdp_edge.data.walk import SUFFIXES, counted, find_images, is_image, is_passed_over, suffix_of
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels


def test_follows_links_out_of_the_folder_and_survives_loops(tmp_path: Path) -> None:
    write_classes(tmp_path / "elsewhere", {"a": 2})
    write_classes(tmp_path / "data", {"b": 1})
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (tmp_path / "data" / "b" / "again").symlink_to(tmp_path / "data" / "b")
    assert scan(tmp_path / "data").paths == ("a/000.png", "a/001.png", "b/000.png")


SYSTEM_FOLDERS = (
    "@eaDir",
    "__MACOSX",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
    "#recycle",
    ".ipynb_checkpoints",
)


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_what_systems_put_beside_data_is_no_data(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {"a": 1, "b": 1})
    write_image(tmp_path / name / "1.png")
    write_image(tmp_path / "a" / name / "1.png" / "thumb.jpg")
    for file in ("Thumbs.db", ".DS_Store", "._000.png", "desktop.ini"):
        (tmp_path / "a" / file).write_bytes(b"\0")
    folder = scan(tmp_path)
    assert (folder.classes, folder.paths, folder.left_out) == (("a", "b"), ("a/000.png", "b/000.png"), ())
    assert scan(tmp_path, Labels.NONE).paths == folder.paths


@pytest.mark.parametrize("labels", [Labels.ONE, Labels.NONE])
@pytest.mark.parametrize("kind", ["pipe", "socket", "linked pipe"])
def test_what_is_no_file_is_refused_instead_of_waited_for(tmp_path: Path, kind: str, labels: Labels) -> None:
    write_classes(tmp_path / "data", {"cat": 2, "dog": 1})
    odd = tmp_path / "data/cat/odd.jpg"
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(odd.parent):  # names of sockets are short
        if kind == "socket":
            server.bind(odd.name)
        else:
            os.mkfifo(tmp_path / "pipe" if kind == "linked pipe" else odd)
        if kind == "linked pipe":
            odd.symlink_to(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"cat/odd.jpg is a (named pipe|socket), not an image file"):
        scan(tmp_path / "data", labels)
    if labels is Labels.ONE:
        (tmp_path / "data/list.csv").write_text("path,label\ncat/odd.jpg,cat\ndog/000.png,dog\n")
        with pytest.raises(InputError, match=r"1 images of .* are not files"):
            images_at(tmp_path / "data/list.csv")


def test_a_pipe_that_is_no_image_by_its_name_is_left_out(tmp_path: Path) -> None:
    write_classes(tmp_path, {"cat": 2, "dog": 1})
    os.mkfifo(tmp_path / "cat/control")
    folder = scan(tmp_path)
    assert len(folder) == 3 and folder.left_out == (("", 1),)


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(names, st.sampled_from(sorted(SUFFIXES)))
def test_a_suffix_in_any_case_makes_an_image(name: str, suffix: str) -> None:
    assert is_image(f"x{name}{suffix.upper()}") and suffix_of(f"x{name}{suffix.upper()}") == suffix
    assert not is_image(f"{name}.txt") and is_passed_over(f".{name}{suffix}")


@given(st.dictionaries(st.sampled_from(["", ".heic", ".txt", ".a", ".b", ".c", ".d"]), st.integers(1, 99), min_size=1))
def test_what_is_left_out_is_counted_with_the_commonest_first(left: dict[str, int]) -> None:
    said = counted(Counter(left))
    assert said.startswith(f"{sum(left.values())} file")
    shown = [int(number) for number in re.findall(r"[(,] ?(\d+) ", said)]
    assert shown == sorted(left.values(), reverse=True)[:5]
    assert ("…" in said) == (len(left) > 5)


def test_paths_are_relative_to_the_root_and_sorted(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/inner/1.JPG", "a/3.png", "b/notes.txt"):
        write_image(tmp_path / name) if "txt" not in name else (tmp_path / name).touch()
    found = find_images(tmp_path)
    assert found.images == ("a/3.png", "b/2.png", "b/inner/1.JPG") and found.left_out == Counter({".txt": 1})
    assert find_images(tmp_path, "b").images == ("b/2.png", "b/inner/1.JPG")
