"""commands/init_data.py: what a stranger gives as --data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_project import without_class_folders, write_images

from wdp_edge.commands.init_data import TRAIN_LIST, VAL_LIST, parts_of
from wdp_edge.data.listed import images_at
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 images right in a folder."""
    write_images(tmp_path / "photos", 8)
    without_class_folders(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.mark.parametrize("given", ["photos", "photos/*.png", "all.txt", "all.csv"])
def test_one_place_without_labels_becomes_two_lists(
    tmp_path: Path, photos: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = sorted(f"photos/{path.name}" for path in photos.iterdir())
    Path("all.txt").write_text("\n".join(names))
    Path("all.csv").write_text("\n".join(["path,label", *(f"{name}," for name in names)]))
    found = parts_of(Path(given), "classify", Path())
    assert found.facts.name == "classify-unlabelled" and (len(found.train), len(found.val)) == (20, 4)
    assert "accuracy" in found.said[0] and TRAIN_LIST in found.said[1]
    found.write_lists()
    again = [images_at(Path(name), Labels.NONE) for name in (TRAIN_LIST, VAL_LIST)]
    assert [part.root / name for part in again for name in part.paths] == [
        found.train.root / name for name in found.train.paths
    ] + [found.val.root / name for name in found.val.paths]
    assert all(line.startswith("photos/") for line in Path(VAL_LIST).read_text().splitlines()[1:])


def test_lists_name_images_from_elsewhere_in_the_way_the_data_were_named(tmp_path: Path, photos: Path) -> None:
    found = parts_of(photos, "features", tmp_path / "project")
    assert found.facts.name == "features" and "agreement" not in " ".join(found.said)
    (tmp_path / "project").mkdir()
    found.write_lists()
    lines = (tmp_path / "project" / TRAIN_LIST).read_text().splitlines()[1:]
    assert lines == [str(photos / name) for name in found.train.paths]


def test_two_flat_folders_are_taken_as_they_are(tmp_path: Path, photos: Path) -> None:
    write_images(tmp_path / "val", 2)
    without_class_folders(tmp_path / "val")
    photos.rename(tmp_path / "train")
    found = parts_of(tmp_path, "classify", tmp_path)
    assert found.places == (tmp_path / "train", tmp_path / "val") and not found.lists
    assert found.facts.name == "classify-unlabelled" and "No labels" in found.said[0]


def test_labels_of_validation_images_alone_are_used(tmp_path: Path, photos: Path) -> None:
    write_images(tmp_path / "val", 2)
    photos.rename(tmp_path / "train")
    found = parts_of(tmp_path, "classify", tmp_path)
    assert found.facts.name == "classify" and not found.train.classes and len(found.val.classes) == 3
    assert "final figures are accuracy" in found.said[0]
    (tmp_path / "train").rename(tmp_path / "was")
    (tmp_path / "val").rename(tmp_path / "train")
    (tmp_path / "was").rename(tmp_path / "val")
    with pytest.raises(InputError, match=r"val holds images without labels, .*train labelled ones") as caught:
        parts_of(tmp_path, "classify", tmp_path)
    assert "--task classify-unlabelled" in (caught.value.hint or "")


def test_a_stray_folder_is_said(tmp_path: Path, photos: Path) -> None:
    (photos / "raw").mkdir()
    next(photos.glob("*.png")).rename(photos / "raw/1.png")
    found = parts_of(photos, "classify", tmp_path)
    assert "1 of the 24 images are in folders below" in found.said[1]


@pytest.mark.parametrize(
    ("task", "says"), [("retrieve", "Recall@1 of the task 'retrieve' needs them"), ("multilabel", "mAP of the task")]
)
def test_labels_are_asked_for_where_the_metric_needs_them(tmp_path: Path, photos: Path, task: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parts_of(photos, task, tmp_path)


def test_a_single_class_folder_is_asked_about(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "phone").mkdir()
    photos.rename(tmp_path / "phone/DCIM")
    with pytest.raises(InputError, match="DCIM: as a class it would be the only one") as caught:
        parts_of(tmp_path / "phone", "classify", tmp_path)
    assert f"--data {tmp_path / 'phone/DCIM'}" in (caught.value.hint or "")


def test_a_folder_of_other_things_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "1.heic").touch()
    with pytest.raises(InputError, match=r"holds no images .* but 1 file \(1 .heic\)"):
        parts_of(tmp_path, "classify", tmp_path)


def test_copies_in_both_folders_are_said(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "data/val").mkdir(parents=True)
    photos.rename(tmp_path / "data/train")
    for name in ("blue-000.png", "red-000.png"):
        shutil.copy(tmp_path / "data/train" / name, tmp_path / "data/val" / name)
    found = parts_of(tmp_path / "data", "features", tmp_path)
    assert found.said == ["2 of the 2 validation images are copies of training images: remove them."]


def test_one_labelled_list_is_not_parted(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "all.csv").write_text("path,label\nphotos/blue-000.png,blue\nphotos/red-000.png,\n")
    with pytest.raises(InputError, match="one list of labelled images; two are needed"):
        parts_of(tmp_path / "all.csv", "classify", tmp_path)
