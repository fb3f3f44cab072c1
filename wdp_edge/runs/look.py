"""The first look at a dense model: how good it is on its own training images, and what other preprocessing gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wdp_edge.protocols.task import Facts

_NEARLY_ALL, _ENOUGH = 0.98, 32  # of the metric; images
BY_HEART = (
    "The dense model is right on nearly all of these training images and may know them by heart: then it is surer of "
    "them than of new images, and a small model or a file agrees with it on more of them."
)


def knows_by_heart(facts: Facts, value: float | None, images: int) -> bool:
    """Whether a dense model may have memorised training images of which so many give this value of the task's metric.

    Of classes only: memorised images change how sure a model is of its answer, and hardly what a cut does to its
    embeddings.
    """
    if value is None or facts.relative or not facts.output.of_classes:
        return False
    return images >= _ENOUGH and value >= _NEARLY_ALL


@dataclass(frozen=True)
class Fit:
    """Preprocessing that fits the dense model better than what is set, beyond chance.

    words: what differs, such as "mean and std of 0.5 instead of ImageNet's". settings: as in `preprocess` of [data].
    value, as_set: the task's metric with it and with what is set, on `images` training images.
    """

    words: str
    settings: dict[str, Any]
    value: float
    as_set: float
    images: int


@dataclass(frozen=True)
class FirstLook:
    """The dense model on training images, as they are prepared and prepared otherwise.

    value: the task's metric. guessing: what guessing gives; None where that is not known. tried: other preprocessing,
    in words; [] where none was, for the reason in `untried`. fit: what fits clearly better; None where nothing does.
    memorised: whether the model may know these images by heart, so that what is estimated on them is too good.
    """

    metric: str
    value: float
    images: int
    guessing: float | None = None
    tried: list[str] = field(default_factory=list)
    untried: str = ""
    fit: Fit | None = None
    memorised: bool = False

    @property
    def line(self) -> str:
        """All of it in one line."""
        guessing = "" if self.guessing is None else f" (guessing gives {self.guessing:.1%})"
        count = f"{self.images} training image{'s' if self.images != 1 else ''}"
        said = f"dense model: {self.metric} {self.value:.1%} on {count}{guessing}"
        if self.fit:
            return f"{said}; {self.fit.value:.1%} with {self.fit.words}"
        if self.tried:
            return f"{said}; none of {len(self.tried)} other ways to prepare them is clearly better"
        return f"{said}; {self.untried}" if self.untried else said
