"""How an image becomes the model's input: the size, crop and normalisation it was trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wdp_edge.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocessing:
    """timm's evaluation settings. size: height and width in pixels.

    mean, std: per channel, of values in [0, 1].
    crop_mode: "center" keeps the aspect ratio and cuts, "squash" does not keep it, "border" pads.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"


INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "hamming", "box", "nearest")
CROP_MODES = ("center", "squash", "border")
CHANNELS = ("rgb", "bgr")
_WHOLE_RANGE = "They are for values from 0 to 1: divide those for 0 to 255 by 255."


def parse_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that differ from timm's: mean, std (one number, or one per channel), interpolation, crop_pct, crop_mode,
    channels.

    Raises InputError for others, and for values that they cannot have.
    """
    known: dict[str, Callable[[str, Any], Any]] = {
        "mean": lambda name, value: _channels(name, value, lambda v: 0 <= v <= 1),
        "std": lambda name, value: _channels(name, value, lambda v: 0 < v <= 1),
        "interpolation": lambda name, value: _one_of(name, value, INTERPOLATIONS),
        "crop_pct": _share,
        "crop_mode": lambda name, value: _one_of(name, value, CROP_MODES),
        "channels": lambda name, value: _one_of(name, value, CHANNELS),
    }
    if unknown := [name for name in data if name not in known]:
        raise InputError(f"there is no setting '{unknown[0]}'.", f"Use: {', '.join(known)}.")
    return {name: known[name](name, value) for name, value in data.items()}


def _channels(name: str, value: Any, allowed: Callable[[float], bool]) -> list[float]:
    """value: a number for all channels, three in a list, or in a text with commas or spaces."""
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    try:
        numbers = [float(part) for part in parts if not isinstance(part, bool)]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or len(numbers) != len(parts):
        raise InputError(f"{name} must be three numbers, not {value}.", f"Write it like {name} = [0.5, 0.5, 0.5].")
    if not all(allowed(number) for number in numbers):
        least = "more than 0" if name == "std" else "at least 0"
        raise InputError(f"{name} must be {least} and at most 1, not {value}.", _WHOLE_RANGE)
    return numbers if len(numbers) == 3 else numbers * 3


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value <= 1:
        raise InputError(f"{name} must be a share from 0.1 to 1, not {value}.", f"Write it like {name} = 0.875.")
    return float(value)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    if str(value).lower() not in allowed:
        raise InputError(f"{name} cannot be '{value}'.", f"Use one of: {', '.join(allowed)}.")
    return str(value).lower()


def channels_of(settings: Mapping[str, Any]) -> str:
    """The order of channels that a model was trained with, "rgb" or "bgr". Images always come in the first."""
    return str(settings.get("channels", "rgb"))


def preprocessing_of(model: nn.Module, settings: Mapping[str, Any] | None = None) -> Preprocessing:
    """What timm's evaluation does for this model; the size is the one that the model was made for.

    settings: what the model was trained with instead, as `parse_settings` gives them.
    """
    from timm.data import resolve_model_data_config

    config = {**resolve_model_data_config(model), **(settings or {})}
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or config["input_size"][1:]
    return Preprocessing(
        size=(int(size[0]), int(size[1])),
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        interpolation=str(config["interpolation"]),
        crop_pct=float(config["crop_pct"]),
        crop_mode=str(config["crop_mode"]),
    )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """images: [n, 3, H, W] uint8 -> the model's input: [n, 3, H, W] float32, equal to timm's to the bit.

    In numpy, on one thread: torch's threads spin at the end of each of these short operations, and on a
    busy machine that costs more than they save.
    """
    import numpy as np
    import torch

    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    values = images.numpy().astype(np.float32)
    values /= 255
    values -= mean
    values /= std
    return torch.from_numpy(values)
