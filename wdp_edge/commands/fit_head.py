"""A head for a backbone, fitted to labelled images: a checkpoint that the other commands take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wdp_edge.commands.beside import told
from wdp_edge.commands.brought import check_labelled, found_images, proposed, settled_images
from wdp_edge.config.file import HEAD_FILE, merge
from wdp_edge.config.recipe import ModelRecipe, Recipe
from wdp_edge.data.preprocess import parse_settings
from wdp_edge.errors import InputError
from wdp_edge.heads.attach import HeadFigures, attach, check_possible
from wdp_edge.protocols.task import ALPHABETICAL
from wdp_edge.runs.results import RESULT_VERSION


@dataclass(frozen=True)
class FitHeadResult:
    """`wdp_edge.fit_head`: the checkpoint written, and how good it is.

    class_order, preprocess: as in [data]. Other fields as in `InitResult`.
    """

    path: Path
    model: str
    num_classes: int
    head: HeadFigures
    args: dict[str, Any] = field(default_factory=dict)
    task: str = "classify"
    class_order: str = ALPHABETICAL
    preprocess: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    why: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    version: int = RESULT_VERSION


def fit_head(
    model: ModelRecipe,
    data: Path,
    out: Path = Path(HEAD_FILE),
    force: bool = False,
    class_order: str = "",
    preprocess: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> FitHeadResult:
    """Writes the model of a checkpoint with a new linear head, fitted to the training images; see `heads.attach`.

    model, data, class_order, preprocess: as for `init`. The checkpoint's own head, if any, does not count.
    seed: of the choice of images to hold back.
    Raises InputError for a task without such a head, where `out` exists and `force` is not set, and as `init` does.
    """
    merge(Recipe(), {"model.args": dict(model.args)})  # before they are given to timm
    if not model.checkpoint:
        raise InputError("There is no checkpoint.", "Give --checkpoint FILE.")
    check_possible(model, out, force)
    given, why, own_args, classes = parse_settings(preprocess or {}), list[str](), set(model.args), model.num_classes
    if not model.name:
        model, why = proposed(model)
    beside = told(model, own_args, given)
    model, images = found_images(model, data, Path())
    check_labelled(images)
    model, found = settled_images(replace(model, num_classes=classes), images, class_order)
    headed = attach(model, found.train, found.val, beside.preprocess, seed)
    headed.written(model, out)
    return FitHeadResult(
        path=out,
        model=model.name,
        num_classes=model.num_classes,
        head=headed.figures,
        args=dict(model.args),
        task=model.task,
        class_order=class_order or ALPHABETICAL,
        preprocess=dict(beside.preprocess),
        weights=headed.choice,
        why=why,
        notes=[*found.said, *beside.notes],
        warnings=[*beside.warnings, *headed.warnings],
    )
