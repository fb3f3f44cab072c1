"""How other libraries store the way to prepare images, in the words of [data]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# PIL's numbers of its filters, as transformers stores them.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_RESCALED = 1 / 255
_TIMM = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
_OPENAI = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
_OPEN_CLIP_MODES = {"shortest": "center", "squash": "squash", "longest": "border"}


def number(value: Any) -> int:
    """A side or a count that a foreign file states; 0 for anything else."""
    if isinstance(value, list) and value and all(one == value[0] for one in value):
        value = value[0]
    return value if type(value) is int and 0 < value < 100_000 else 0


def of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    """config: timm's pretrained_cfg."""
    return {key: config[key] for key in _TIMM if config.get(key) is not None}


def of_open_clip(config: Mapping[str, Any]) -> dict[str, Any]:
    """config: `preprocess_cfg` of an open_clip_config.json, whose defaults are OpenAI's."""
    mode = _OPEN_CLIP_MODES.get(str(config.get("resize_mode", "shortest")), "center")
    given = {key: config[key] for key in ("mean", "std", "interpolation") if key in config}
    return {**_OPENAI, "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": mode, **given}


def of_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    """config: of an image processor; a processor of images and texts has it inside."""
    inner = config.get("image_processor")
    data = inner if isinstance(inner, Mapping) else config
    if not data:
        return {}
    found = _normalisation(data)
    if (resample := _RESAMPLE.get(data.get("resample", -1))) is not None:
        found["interpolation"] = resample
    return found | _crop(data)


def _normalisation(data: Mapping[str, Any]) -> dict[str, Any]:
    """transformers rescales values from 0 to 255 by a factor before it normalises them."""
    mean, std = data.get("image_mean"), data.get("image_std")
    if data.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    factor = 1.0 if data.get("do_rescale") is False else data.get("rescale_factor", _RESCALED)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or factor <= 0:
        factor = _RESCALED
    found = {}
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list):
            continue
        if abs(factor - _RESCALED) > 1e-6 and all(isinstance(v, int | float) for v in values):
            values = [round(value / (255 * factor), 8) for value in values]
        found[name] = values
    return found


def _crop(data: Mapping[str, Any]) -> dict[str, Any]:
    size, crop = data.get("size"), data.get("crop_size")
    pair = isinstance(size, Mapping) and "height" in size
    short = number(size.get("shortest_edge")) if isinstance(size, Mapping) else number(size)
    side = number(crop.get("height")) if isinstance(crop, Mapping) else number(crop)
    if data.get("do_center_crop"):
        if pair and isinstance(size, Mapping):
            return {"crop_mode": "squash"} | _share(side, number(size.get("height")))
        return _share(side, short)
    if isinstance(data.get("crop_pct"), float):
        return {"crop_pct": data["crop_pct"]}
    # Older files have one number for a square that images are stretched to.
    return {"crop_pct": 1.0, "crop_mode": "squash"} if pair or (short and not isinstance(size, Mapping)) else {}


def _share(side: int, resized: int) -> dict[str, Any]:
    return {"crop_pct": round(side / resized, 4)} if side and resized else {}
