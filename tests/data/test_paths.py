"""data/paths.py: a text file with one path a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from class_folders import write_image

from wdp_edge.data.listed import images_at
from wdp_edge.data.paths import read_paths
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels


def test_paths_lead_anywhere_and_comments_are_none(tmp_path: Path) -> None:
    near, far = write_image(tmp_path / "lists/near.jpg"), write_image(tmp_path / "far/away.JPG")
    path = tmp_path / "lists/all.txt"
    path.write_bytes(b"\xef\xbb\xbf# mine\r\n\r\n near.jpg \r\n" + f"{far}\r\n".encode())
    found = read_paths(path)
    assert found.paths == ("far/away.JPG", "lists/near.jpg") and found.labels == (0, 0)
    assert [(found.root / name).samefile(image) for name, image in zip(found.paths, (far, near), strict=True)]
    path.write_text("near.jpg\n../far/away.JPG\n")
    assert images_at(path, Labels.NONE).paths == found.paths
    path.write_text("near.jpg\n")
    assert (read_paths(path).root, read_paths(path).paths) == (path.parent, ("near.jpg",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no images"),
        ("a.jpg\na.jpg\n", "2 times"),
        ("a.jpg\nb.jpg\n", "1 images of .* do not exist"),
        ("a.jpg cat\n", "'a.jpg cat', which is not an image"),
        ("path,label\na.jpg,cat\n", "'path,label', which is not an image"),
    ],
)
def test_what_is_no_list_of_images_is_refused(tmp_path: Path, text: str, says: str) -> None:
    write_image(tmp_path / "a.jpg")
    (tmp_path / "all.txt").write_text(text)
    with pytest.raises(InputError, match=says):
        read_paths(tmp_path / "all.txt")


def test_labels_are_not_looked_for_in_paths(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("cat/1.jpg\n")
    with pytest.raises(InputError, match="says nothing of labels"):
        images_at(tmp_path / "all.txt", Labels.ONE)
