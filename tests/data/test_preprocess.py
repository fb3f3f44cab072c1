"""Images as timm would prepare them for the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from class_folders import write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import load_images
from wdp_edge.data.preprocess import Preprocessing, normalise, parse_settings, preprocessing_of
from wdp_edge.errors import InputError
from wdp_edge.io.files import to_plain
from wdp_edge.io.plain import from_plain

SETTINGS = Preprocessing((32, 32), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", 0.9)


def timm_transform(p: Preprocessing) -> object:
    return create_transform(
        (3, *p.size),
        is_training=False,
        mean=p.mean,
        std=p.std,
        interpolation=p.interpolation,
        crop_pct=p.crop_pct,
        crop_mode=p.crop_mode,
    )


def test_follows_the_size_the_model_was_made_for() -> None:
    model = timm.create_model("vit_small_patch14_dinov2", img_size=56, num_classes=10, depth=1)
    imagenet = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert preprocessing_of(model) == Preprocessing((56, 56), *imagenet, "bicubic", 1.0, "center")


def test_follows_the_settings_of_other_models() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), patch_size=4, num_classes=10, depth=1)
    found = preprocessing_of(model)
    assert found.size == (32, 48)
    assert found.mean == (0.5, 0.5, 0.5)
    assert found.crop_pct == 0.9


def test_settings_win_over_timms() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10, depth=1)
    given = {"mean": 0, "std": "0.1, 0.2,0.3", "interpolation": "Bilinear", "crop_pct": 1, "crop_mode": "squash"}
    parsed = parse_settings(given)
    assert parse_settings(parsed) == parsed
    wanted = Preprocessing((32, 32), (0, 0, 0), (0.1, 0.2, 0.3), "bilinear", 1.0, "squash")
    assert preprocessing_of(model, parsed) == wanted
    assert preprocessing_of(model, {}) == preprocessing_of(model)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mean": [123.7, 116.3, 103.5]}, r"mean must be at least 0 and at most 1.*divide those for 0 to 255 by 255"),
        ({"std": [58.4, 57.1, 57.4]}, "std must be more than 0 and at most 1.*divide"),
        ({"std": [0.2, 0.0, 0.2]}, "std must be more than 0"),
        ({"mean": [0.5, 0.5]}, "mean must be three numbers"),
        ({"mean": "grey"}, "mean must be three numbers"),
        ({"mean": float("nan")}, "mean must be at least 0"),
        ({"std": [True, 0.5, 0.5]}, "std must be three numbers"),
        ({"interpolation": "cubic"}, "interpolation cannot be 'cubic'.*bicubic"),
        ({"crop_pct": 87.5}, "crop_pct must be a share"),
        ({"crop_mode": "centre"}, "crop_mode cannot be 'centre'.*center"),
        ({"means": 0.5}, "there is no setting 'means'.*mean, std"),
    ],
)
def test_settings_that_no_model_has_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_settings(wrong)


def test_survives_json() -> None:
    assert from_plain(Preprocessing, json.loads(json.dumps(to_plain(SETTINGS)))) == SETTINGS


@pytest.mark.parametrize("change", [{"size": [1]}, {"mean": [1.0]}, {"crop_pct": None}, {"more": 1}])
def test_rejects_other_json(change: dict[str, object]) -> None:
    data = {**to_plain(SETTINGS), **change}
    if change == {"crop_pct": None}:
        del data["crop_pct"]
    with pytest.raises(InputError, match=r"Preprocessing\.\w+"):
        from_plain(Preprocessing, data)


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    size=st.tuples(st.integers(8, 48), st.integers(8, 48)),
    square=st.booleans(),
    crop_pct=st.sampled_from([0.8, 0.875, 0.9, 0.95, 1.0]),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "nearest"]),
)
def test_pixels_equal_timms_evaluation_transform(
    tmp_path_factory: pytest.TempPathFactory,
    width: int,
    height: int,
    size: tuple[int, int],
    square: bool,
    crop_pct: float,
    crop_mode: str,
    interpolation: str,
) -> None:
    size = (size[0], size[0]) if square else size
    p = Preprocessing(size, SETTINGS.mean, SETTINGS.std, interpolation, crop_pct, crop_mode)
    path = write_image(tmp_path_factory.getbasetemp() / "one.png", (width, height), seed=width * height)
    try:
        expected = timm_transform(p)(Image.open(path).convert("RGB"))  # type: ignore[operator]
    except ValueError:  # an edge of less than half a pixel: timm cannot do it either
        return
    folder = ImageFolder(path.parent, ("a",), (path.name,), (0,))
    images = load_images(folder, [0], p)
    assert images.dtype == torch.uint8
    assert torch.equal(normalise(images, p)[0], expected)


def test_grey_palette_and_transparent_images_are_read_as_timm_reads_them(tmp_path: Path) -> None:
    for mode in ("L", "P", "RGBA", "1"):
        path = write_image(tmp_path / f"{mode}.png", mode=mode)
        expected = timm_transform(SETTINGS)(Image.open(path).convert("RGB"))  # type: ignore[operator]
        images = load_images(ImageFolder(tmp_path, ("a",), (path.name,), (0,)), [0], SETTINGS)
        assert torch.equal(normalise(images, SETTINGS)[0], expected)


def test_normalise_leaves_its_input_alone() -> None:
    images = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8)
    out = normalise(images, SETTINGS)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out[0, :, 0, 0], [2.5, 2.0, 1.75], rtol=1e-6)
    assert bool((images == 255).all())
