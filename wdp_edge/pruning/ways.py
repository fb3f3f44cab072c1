"""Other ways to prepare images than the one that is set: what else people train with, one thing changed at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from wdp_edge.data.preprocess import Preprocessing

Triple = tuple[float, float, float]

VALUES: dict[str, tuple[Triple, Triple]] = {
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean and std of 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "CLIP's mean and std": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "values from 0 to 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "values from 0 to 255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
"""mean and std, the commonest first."""
_CROPS, _NEAR = (1.0, 0.95, 0.875), 0.03  # crops nearer to each other are not told apart
_INTERPOLATIONS = ("bicubic", "bilinear")
_ORDERS = {"rgb": "red, green, blue", "bgr": "blue, green, red"}


@dataclass(frozen=True)
class Way:
    """How images are prepared for the dense model.

    usual: what timm does for its name, the likeliest where it is not what is set. channels: that the checkpoint is said
    to take, as in `preprocess` of [data]. reverse: the model gets them in the other order.
    What differs from the way that is set: kinds, the things; short, the last change in words; words, all changes and
    what they replace; settings, as in `preprocess` of [data].
    """

    preprocessing: Preprocessing
    usual: Preprocessing
    channels: str = "rgb"
    reverse: bool = False
    kinds: tuple[str, ...] = ()
    short: str = ""
    words: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def decoding(self) -> Preprocessing:
        """What the pixels depend on."""
        return replace(self.preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def changed(self, kind: str, short: str, instead_of: str, **settings: Any) -> Way:
        words = f"{short} instead of {instead_of}"
        order = settings.get("channels")
        fields: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in settings.items() if name != "channels"
        }
        return Way(
            replace(self.preprocessing, **fields),
            self.usual,
            order or self.channels,
            self.reverse != (order not in (None, self.channels)),
            (*self.kinds, kind),
            short,
            f"{self.words} and {words}" if self.words else words,
            {**self.settings, **settings},
        )


def ways_beside(way: Way) -> list[Way]:
    """One more thing changed, of each kind the likeliest first."""
    kinds = (_other_values(way), _other_order(way), _other_crops(way), _other_interpolations(way))
    found = [other for others in kinds for other in sorted(others, key=lambda other: not _is_usual(other))]
    return [other for other in found if other.kinds[-1] not in way.kinds]


def _is_usual(way: Way) -> bool:
    """In what was changed last."""
    now, usual = way.preprocessing, way.usual
    return {
        "values": _near(now.mean, usual.mean) and _near(now.std, usual.std),
        "channels": way.channels == "rgb",
        "crop": now.crop_mode == usual.crop_mode and abs(now.crop_pct - usual.crop_pct) < _NEAR,
        "interpolation": now.interpolation == usual.interpolation,
    }[way.kinds[-1]]


def _other_values(way: Way) -> list[Way]:
    now = way.preprocessing
    alike = {name for name, (mean, std) in VALUES.items() if _near(mean, now.mean) and _near(std, now.std)}
    own = next(iter(alike), "the mean and std that are set")
    return [
        way.changed("values", name, own, mean=list(mean), std=list(std))
        for name, (mean, std) in VALUES.items()
        if name not in alike
    ]


def _near(one: Triple, other: Triple) -> bool:
    return all(abs(a - b) < 0.1 * max(a, b) + 1e-9 for a, b in zip(one, other, strict=True))


def _other_order(way: Way) -> list[Way]:
    other = "rgb" if way.channels == "bgr" else "bgr"
    return [way.changed("channels", f"channels {_ORDERS[other]}", _ORDERS[way.channels], channels=other)]


def _other_crops(way: Way) -> list[Way]:
    now = way.preprocessing
    named = {"center": f"{now.crop_pct:g}", "squash": "a squashed image", "border": "a border"}
    own, centred = named.get(now.crop_mode, now.crop_mode), now.crop_mode == "center"
    shares = [share for share in _CROPS if not (centred and abs(share - now.crop_pct) < _NEAR)]
    crops = [way.changed("crop", f"a crop of {s:g}", own, crop_pct=s, crop_mode="center") for s in shares]
    if now.crop_mode != "squash":
        crops.append(
            way.changed("crop", "the whole image squashed", f"a crop of {own}", crop_pct=1.0, crop_mode="squash")
        )
    return crops


def _other_interpolations(way: Way) -> list[Way]:
    own = way.preprocessing.interpolation
    return [
        way.changed("interpolation", f"{name} interpolation", own, interpolation=name)
        for name in _INTERPOLATIONS
        if name != own
    ]
