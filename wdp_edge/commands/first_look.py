"""What `init` learns from the dense model's answers on training images: the order of its classes, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.classes import absent, in_order, unlabelled_names
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.preprocess import channels_of, preprocessing_of
from wdp_edge.models.pixels import take_rgb
from wdp_edge.protocols.task import ALPHABETICAL, NATURAL, Facts, Labels
from wdp_edge.pruning.first_look import Plausible, judged, look
from wdp_edge.pruning.plausible import doubts, fitting_order, renumbered
from wdp_edge.pruning.ways import Way
from wdp_edge.runs.look import FirstLook


@dataclass(frozen=True)
class Found:
    """See `InitResult`: class_order, order_metric, order_images, warnings, first_look."""

    order: str = ALPHABETICAL
    metric: dict[str, float] | None = None
    images: int | None = None
    warnings: list[str] = field(default_factory=list)
    look: FirstLook | None = None


def first_look(
    model: ModelRecipe,
    dense: nn.Module,
    facts: Facts,
    folders: tuple[ImageFolder, ImageFolder],
    labelled: ImageFolder,
    class_order: str,
    preprocess: Mapping[str, Any],
) -> Found:
    """class_order: "" lets the model choose.

    folders: training and validation images. labelled: the one of them that has labels, or the first.
    """
    train, val = folders
    if facts.labels is Labels.MASK:
        train = train.with_classes(tuple(map(str, range(model.num_classes))))
    if facts.of_answers:
        unlabelled_names(model.num_classes, class_order)
    shown, channels = val if labelled is val else train, channels_of(preprocess)
    way = Way(preprocessing_of(dense, preprocess), preprocessing_of(dense), channels)
    sampled, said = look(take_rgb(dense, channels), shown, way, model.task)
    fitting = fitting_order(sampled.seen) if class_order in ("", ALPHABETICAL, NATURAL) else None
    order = class_order or (fitting.order if fitting else ALPHABETICAL)
    if fitting:
        seen = renumbered(sampled.seen, in_order(shown, order, model.num_classes).classes)
        sampled = replace(sampled, seen=seen)
    if shown is val:  # which preprocessing fits is no question to them
        doubted = [text.replace("training images", "validation images") for text in doubts(sampled.seen)]
        plausible = Plausible(doubted)
    else:
        plausible = judged(sampled)
    warnings = said + plausible.warnings + absent(train, val, facts)
    figures, images = (fitting.figures, fitting.images) if fitting else (None, None)
    return Found(order, figures, images, warnings, plausible.look)
