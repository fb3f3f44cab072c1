"""A file becomes the pixels that the model sees, whatever kind it is of, or is named with its reason; random views."""

from __future__ import annotations

import io
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from class_folders import write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from wdp_edge.data import worker
from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.loading import check_headers, load_images, view_of
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.data.walk import SUFFIXES
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels

SIDE = 16
PLAIN = Preprocessing((SIDE, SIDE), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "nearest", 1.0)
RAMP = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)


def pixels(path: Path) -> np.ndarray:
    """[H, W, 3] uint8, as the model's input is made from the file."""
    folder = ImageFolder(path.parent, (), (path.name,), (0,))
    return load_images(folder, [0], PLAIN)[0].permute(1, 2, 0).numpy()


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, 2)


def tiff(path: Path, values: np.ndarray, tags: dict[int, int]) -> Path:
    """A TIFF of one strip, written by hand: of kinds that Pillow reads and does not write."""
    data = values.tobytes()
    entries = {256: SIDE, 257: SIDE, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: SIDE, 279: len(data), 339: 1} | tags
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    path.write_bytes(head + data + struct.pack("<H", len(entries)) + body + b"\0\0\0\0")
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".jp2"])
def test_grey_of_16_bits_is_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    options = {"irreversible": False} if suffix == ".jp2" else {}
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path, **options)
    assert (pixels(path) == grey(RAMP)).all()
    Image.fromarray(RAMP.astype(np.uint16) * 257 + np.uint16(100) * (RAMP < 255)).save(path, **options)
    assert (pixels(path) == grey(RAMP)).all(), "rounded to the nearest"


def test_16_bits_of_the_other_byte_order_and_of_other_signs(tmp_path: Path) -> None:
    wide = RAMP.astype(np.uint16) * 257
    big = tmp_path / "big.tif"
    Image.frombytes("I;16B", (SIDE, SIDE), wide.astype(">u2").tobytes()).save(big)
    assert (pixels(big) == grey(RAMP)).all()
    assert (pixels(tiff(tmp_path / "white.tif", wide, {262: 0})) == grey(255 - RAMP)).all()


def test_grey_of_12_bits_fills_the_range(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, SIDE * SIDE).round().astype(int).reshape(SIDE, SIDE // 2, 2)
    first, second = values[..., 0], values[..., 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).astype(np.uint8)
    got = pixels(tiff(tmp_path / "x.tif", packed, {258: 12}))
    expected = (values.reshape(SIDE, SIDE) * 255 / 4095).round()
    assert got.max() == 255
    assert np.abs(got[..., 0] - expected).max() <= 1  # halves may be rounded either way


def test_colours_of_16_bits_keep_their_high_bytes(tmp_path: Path) -> None:
    rgb = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P6 16 16 65535\n" + (rgb.astype(">u2") * 257).astype(">u2").tobytes())
    assert (pixels(path) == rgb).all()


def float_tiff(path: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32) / 255).save(path)


def signed_tiff(path: Path) -> None:
    tiff(path, RAMP.astype(np.int16) * 100 - 5000, {339: 2})


def wide_tiff(path: Path) -> None:
    Image.fromarray(RAMP.astype(np.int32) * 1000).save(path)


@pytest.mark.parametrize("write", [float_tiff, signed_tiff, wide_tiff])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "scan.tif")
    with pytest.raises(InputError, match=r"cannot be read: scan\.tif \(its pixels are .* of unknown range"):
        pixels(tmp_path / "scan.tif")


def test_transparency_is_dropped_as_timm_drops_it(tmp_path: Path) -> None:
    rgb = np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    Image.fromarray(np.dstack([rgb, RAMP]), "RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(np.dstack([RAMP, RAMP.T]), "LA").save(tmp_path / "la.png")
    palette = Image.fromarray(RAMP, "P")
    palette.putpalette([v for i in range(256) for v in (i, 255 - i, 7)])
    palette.save(tmp_path / "palette.png", transparency=3)
    assert (pixels(tmp_path / "rgba.png") == rgb).all()
    assert (pixels(tmp_path / "la.png") == grey(RAMP)).all()
    assert (pixels(tmp_path / "palette.png") == np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 7)], -1)).all()


def test_bits_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "x.pbm")
    assert (pixels(tmp_path / "x.pbm") == grey(np.where(RAMP > 100, 255, 0))).all()


def test_inverted_inks_come_out_as_their_colour(tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), (250, 10, 10)).convert("CMYK").save(tmp_path / "x.jpg", quality=95)
    assert b"Adobe" in (tmp_path / "x.jpg").read_bytes(), "which means: inverted"
    red, green, blue = pixels(tmp_path / "x.jpg").reshape(-1, 3).mean(0)
    assert red > 240 and green < 25 and blue < 25


def test_the_first_of_several_pictures_is_taken(tmp_path: Path) -> None:
    first, second = (Image.fromarray(values) for values in (RAMP, RAMP[::-1].copy()))
    for name in ("x.gif", "x.tif"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert (pixels(tmp_path / name) == grey(RAMP)).all()


@pytest.mark.parametrize("suffix", [*sorted(s[1:] for s in SUFFIXES), "JPEG", "PNM"])
def test_every_suffix_that_is_taken_is_read(tmp_path: Path, suffix: str) -> None:
    source = write_image(tmp_path / "source.png", mode="1" if suffix == "pbm" else "RGB")
    kinds = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM", "pnm": "PPM", "PNM": "PPM"}
    with Image.open(source) as opened:
        image = opened.convert("L") if suffix == "pgm" else opened
        for name in "ab":
            image.save(tmp_path / f"{name}.{suffix}", kinds.get(suffix))
    source.unlink()
    folder = scan(tmp_path, Labels.NONE)
    assert folder.paths == (f"a.{suffix}", f"b.{suffix}")
    check_headers(folder)
    assert load_images(folder, [0, 1], PLAIN).float().std() > 10


def test_whatever_pillow_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "x.tif")

    def explode(self: object) -> None:
        raise struct.error("unpack requires a buffer")

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", explode)
    with pytest.raises(InputError, match=r"x\.tif \(error: unpack requires a buffer\)"):
        pixels(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20 * 16 // 2 - 1)
    folder = ImageFolder(path.parent, (), (path.name,), (0,))
    for look in (lambda: check_headers(folder), lambda: pixels(path)):
        with pytest.raises(InputError, match=r"x\.png \(Image size"):
            look()


def test_nothing_is_heard_of_odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large image makes Pillow warn, and a view of one pixel is laid out as it came: torch warned of that."""
    path = write_image(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    one = Preprocessing((1, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "nearest", 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_images(ImageFolder(tmp_path, (), (path.name,), (0,)), [0], one).dtype == torch.uint8


def test_a_mask_must_not_be_lossy(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(RAMP % 3).save(content, "JPEG")
    write_image(tmp_path / "a.png", (SIDE, SIDE))
    (tmp_path / "m.png").write_bytes(content.getvalue())
    folder = ImageFolder(tmp_path, ("0", "1", "2"), ("a.png",), (0,), masks=("m.png",))
    with pytest.raises(InputError, match=r"mask m\.png: it is a JPEG file"):
        check_headers(folder)


SETTINGS = Preprocessing((32, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", 0.9)


def test_random_views_have_the_models_size_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (40, 30))
    folder = ImageFolder(tmp_path, ("a",), ("a.png",), (0,))
    view = view_of(folder, SETTINGS, worker.Augmentation())
    views = [worker.pixels(view, "a.png", seed) for seed in (1, 2, 1)]
    assert len(views[0]) == view.bytes == 3 * 32 * 32
    assert views[0] == views[2] != views[1]


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    min_crop=st.floats(0.05, 1.0),
    shape=st.floats(0.3, 3.0),
    seed=st.integers(0, 2**70),
)
def test_random_crops_lie_inside_the_image(width: int, height: int, min_crop: float, shape: float, seed: int) -> None:
    image = Image.new("RGB", (width, height))
    augmentation = worker.Augmentation(min_crop=min_crop)
    left, top, right, bottom = worker._random_box(image, shape, augmentation, random.Random(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_flip_mirrors_half_of_the_views_and_can_be_switched_off(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (32, 32))
    plain = np.asarray(Image.open(tmp_path / "a.png"))
    folder = ImageFolder(tmp_path, ("a",), ("a.png",), (0,))
    counts = []
    for flip in (True, False):
        view = view_of(folder, SETTINGS, worker.Augmentation(flip=flip, min_crop=1.0))
        views = [np.frombuffer(worker.pixels(view, "a.png", s), np.uint8).reshape(32, 32, 3) for s in range(40)]
        mirrored = [bool((v == plain[:, ::-1]).all()) for v in views]
        assert all(m or (v == plain).all() for m, v in zip(mirrored, views, strict=True))
        counts.append(sum(mirrored))
    assert 10 <= counts[0] <= 30
    assert counts[1] == 0
