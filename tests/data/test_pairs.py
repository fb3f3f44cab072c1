"""Images and their masks: pairs are found, views of both are alike, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from class_folders import write_image
from PIL import Image

from wdp_edge.data.folder import ImageFolder, fingerprint
from wdp_edge.data.listed import images_at, scan_pairs
from wdp_edge.data.loading import check_headers, eval_batches, load_images, load_labelled, readable
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.data.stream import Augmentation, StreamOptions, TrainStream
from wdp_edge.data.worker import IGNORED
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels

SMALL = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)
CLASSES = ("0", "1", "2")


def write_pair(root: Path, name: str, size: tuple[int, int] = (24, 20), mode: str = "L") -> None:
    """An image that is red where its mask has class 1, else blue."""
    rng = np.random.default_rng(len(name))
    mask = np.zeros((size[1], size[0]), np.uint8)
    left, top = rng.integers(0, 8, 2)
    mask[top : top + 10, left : left + 9] = 1
    image = np.where(mask[..., None] == 1, (255, 0, 0), (0, 0, 255)).astype(np.uint8)
    for part, values in (("images", image), ("masks", mask)):
        path = root / part / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = Image.fromarray(values)
        if part == "masks" and mode == "P":
            found.putpalette([0, 0, 0, 200, 10, 10, 9, 9, 9])
        found.save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, mode in (("a", "L"), ("bb", "P"), ("more/ccc", "L"), ("dddd", "L")):
        write_pair(tmp_path, name, mode=mode)
    (tmp_path / "images/a.png").rename(tmp_path / "images/a.PNG")
    return tmp_path


def pairs(root: Path) -> ImageFolder:
    return scan_pairs(root).with_classes(CLASSES)


def red(images: torch.Tensor) -> torch.Tensor:
    """images: [n, 3, H, W] uint8 -> [n, H, W] bool."""
    return images[:, 0] > images[:, 2]


def test_pairs_are_found_by_name(root: Path) -> None:
    found = images_at(root, Labels.MASK)
    assert found.paths == ("images/a.PNG", "images/bb.png", "images/dddd.png", "images/more/ccc.png")
    assert found.masks == ("masks/a.png", "masks/bb.png", "masks/dddd.png", "masks/more/ccc.png")
    assert (found.classes, found.labels) == ((), (0,) * 4)
    assert found.subset([2]).masks == ("masks/dddd.png",)
    before = fingerprint(found)
    Image.new("L", (24, 20), 2).save(root / "masks/dddd.png")
    assert fingerprint(found) != before


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_a_mask_is_seen_as_its_image(root: Path, workers: int, mode: str) -> None:
    view = Preprocessing((16, 16), SMALL.mean, SMALL.std, "nearest", 0.9, mode)
    images, masks = load_labelled(pairs(root), range(4), view, workers)
    assert (masks.shape, masks.dtype) == ((4, 16, 16), torch.uint8)
    known = masks != IGNORED
    assert known.all() == (mode != "border") and known.any()
    assert torch.equal((masks == 1)[known], red(images)[known])
    assert torch.equal(load_images(pairs(root), range(4), view, workers), images)


def test_random_views_of_both_are_the_same(root: Path) -> None:
    nearest = Preprocessing((16, 16), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "nearest", 1.0)
    options = StreamOptions(3, 0, 0, Augmentation(min_crop=0.3))
    seen = set()
    for images, masks in TrainStream(pairs(root), range(4), nearest, options).batches(0, 8):
        assert torch.equal(masks == 1, images[:, 0] > images[:, 2])
        seen |= {tuple(mask.flatten().tolist()) for mask in masks}
    assert len(seen) > 12


def test_what_is_not_paired_is_counted_and_named(root: Path) -> None:
    for name in ("e", "f", "g", "h"):
        write_image(root / f"images/{name}.png")
    Image.new("L", (24, 20)).save(root / "masks/unused.png")
    message = r"4 images \(e, f, g, …\) without a mask and 1 mask \(unused\) without an image"
    with pytest.raises(InputError, match=message):
        scan_pairs(root)
    write_image(root / "images/a.jpg")
    with pytest.raises(InputError, match="2 files called 'a'"):
        scan_pairs(root)


def test_other_layouts_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder images/"):
        scan_pairs(root / "images")
    with pytest.raises(InputError, match="does not exist"):
        scan_pairs(root / "train")
    with pytest.raises(InputError, match="is a list, which has no masks"):
        images_at(root / "train.csv", Labels.MASK)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (Image.new("L", (20, 24)), "it has 20 x 24 pixels, the image 24 x 20"),
        (Image.new("RGB", (24, 20)), "it holds pixels of kind RGB, not 8-bit class numbers"),
        (Image.new("L", (24, 20), 3), "it holds class 3, but the model's classes are 0 to 2"),
    ],
    ids=["size", "kind", "class"],
)
def test_masks_that_do_not_fit_are_named(root: Path, mask: Image.Image, reason: str) -> None:
    mask.save(root / "masks/bb.png")
    with pytest.raises(InputError, match=rf"1 image in .* cannot be read: images/bb.png \(mask masks/bb.png: {reason}"):
        list(eval_batches(pairs(root), range(4), SMALL))
    assert "images/bb.png" not in readable(pairs(root), SMALL, 1, 0).paths
    assert len(load_images(pairs(root), range(4), SMALL)) == 4
    if "holds class" not in reason:  # pixels are not looked at
        with pytest.raises(InputError, match=reason):
            check_headers(pairs(root))


def test_a_broken_mask_is_told_from_its_image(root: Path) -> None:
    (root / "masks/bb.png").write_bytes(b"nothing")
    for look in (lambda: list(eval_batches(pairs(root), range(4), SMALL)), lambda: check_headers(pairs(root))):
        with pytest.raises(InputError, match=r"mask masks/bb\.png: cannot identify"):
            look()


def test_ignored_pixels_are_no_class(root: Path) -> None:
    Image.new("L", (24, 20), IGNORED).save(root / "masks/bb.png")
    assert (load_labelled(pairs(root), [1], SMALL)[1] == IGNORED).all()
