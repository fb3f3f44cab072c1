"""models/recognise/image_processor.py: other libraries' ways to prepare images, in the words of [data]."""

from __future__ import annotations

from typing import Any

import pytest

from wdp_edge.data.preprocess import parse_settings
from wdp_edge.models.recognise.image_processor import of_open_clip, of_timm, of_transformers

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
OURS = {"mean": [0.5] * 3, "std": [0.5] * 3}
SQUASH = {"crop_pct": 1.0, "crop_mode": "squash"}
SHORT = {"do_center_crop": True, "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SHORT | {"resample": 3}, {"interpolation": "bicubic", "crop_pct": 0.875}),
        ({"size": {"height": 224, "width": 224}, "resample": 2}, {"interpolation": "bilinear", **SQUASH}),
        ({"size": 224}, SQUASH),  # before sizes were tables
        ({"size": 256, "crop_size": 224, "do_center_crop": True}, {"crop_pct": 0.875}),
        (SHORT | {"size": {"height": 256, "width": 256}}, {"crop_pct": 0.875, "crop_mode": "squash"}),
        (HALF | {"do_normalize": False}, {"mean": [0.0] * 3, "std": [1.0] * 3}),
        (HALF | {"rescale_factor": 1 / 255}, OURS),
        ({"image_mean": [127.5] * 3, "image_std": [127.5] * 3, "do_rescale": False}, OURS),
        ({"image_mean": [1.0] * 3, "image_std": [1.0] * 3, "rescale_factor": 1 / 127.5}, OURS),
        ({"image_processor": HALF, "tokenizer": {}}, OURS),
        ({}, {}),
    ],
)
def test_how_transformers_prepares_images(config: dict[str, Any], expected: dict[str, Any]) -> None:
    assert of_transformers(config) == expected


def test_how_timm_and_open_clip_do() -> None:
    timms = {"mean": [0.5] * 3, "crop_pct": 0.9, "tag": "x", "crop_mode": None}
    assert of_timm(timms) == {"mean": [0.5] * 3, "crop_pct": 0.9}
    found = of_open_clip({"size": 224, "resize_mode": "squash"})
    assert parse_settings(found) == found
    assert (found["crop_mode"], found["interpolation"]) == ("squash", "bicubic")
