"""How an image becomes the model's input: the size, crop and normalisation it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Parses `to_json`'s output.

        Raises InputError for missing, extra or wrong fields.
        """
        try:
            height, width = (int(n) for n in data["size"])
            mean, std = (tuple(float(v) for v in data[name]) for name in ("mean", "std"))
            if len(mean) != 3 or len(std) != 3:
                raise ValueError("mean and std need three values each")
            return cls(**{**data, "size": (height, width), "mean": mean, "std": std})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"These are not preprocessing settings: {type(error).__name__}: {error}.",
                "Point to a run that wdp-edge wrote.",
            ) from error


def preprocessing_of(model: nn.Module) -> Preprocessing:
    """What timm's evaluation does for this model; the size is the one that the model was made for."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(model)
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
