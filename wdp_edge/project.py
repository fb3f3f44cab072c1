"""A project: a folder with a wdp-edge.toml, a trained model and images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.data.preprocess import parse_settings
from wdp_edge.errors import InputError
from wdp_edge.files import write_text
from wdp_edge.progress import task
from wdp_edge.recipe import BudgetRecipe, ModelRecipe, Recipe
from wdp_edge.recipe_file import RECIPE_FILE as RECIPE_FILE
from wdp_edge.recipe_file import dump_recipe, load_recipe, merge
from wdp_edge.results import RESULT_VERSION
from wdp_edge.task import ALPHABETICAL, NATURAL, Labels, Output, facts_of

if TYPE_CHECKING:
    from torch import Tensor

    from wdp_edge.data.folder import ImageFolder

_ORDERS = (ALPHABETICAL, NATURAL)

_MISSING = {
    "model.name": ("model", "name in [model]", "--model NAME"),
    "model.checkpoint": ("checkpoint", "checkpoint in [model]", "--checkpoint FILE"),
    "data.train": ("training images", "train in [data]", "--train FOLDER or --data FOLDER"),
    "data.val": ("validation images", "val in [data]", "--val FOLDER or --data FOLDER"),
    "prune.latency_budget": (
        "latency budget",
        "latency_budget in [prune]",
        "--latency-budget 20ms (or 50% of the dense model)",
    ),
}
_NEITHER = ", and no --model and --data that say what to prune"


@dataclass(frozen=True)
class InitResult:
    """`wdp_edge.init`: the file written, and what was found.

    head_blocks: where the head of segment reads several, the ones that were assumed, as in [model].
    left_out: files below the two folders that are no images or of no class, by part ("train", "val") and suffix.
    class_order: as in [data]. order_metric: the task's metric with each of the two orders of class names, on
    order_images training images; None where both are the same. warnings: what speaks against the model and its images.
    weights: which of several sets of weights in the checkpoint was taken, and the others; "" where there was one.
    """

    path: Path
    model: str
    num_classes: int
    train_images: int
    val_images: int
    head_blocks: str = ""
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    class_order: str = ALPHABETICAL
    order_metric: dict[str, float] | None = None
    order_images: int | None = None
    warnings: list[str] = field(default_factory=list)
    task: str = "classify"
    weights: str = ""
    version: int = RESULT_VERSION


def init(
    model: ModelRecipe,
    data: Path,
    folder: Path = Path(),
    force: bool = False,
    class_order: str = "",
    preprocess: Mapping[str, Any] | None = None,
) -> InitResult:
    """Writes wdp-edge.toml into `folder` after reading the checkpoint and listing the images.

    The dense model looks at some training images, which tells whether it makes sense of them.

    model: num_classes = 0 takes the number of classes found where labels name them. data: holds train/ and val/ (or
    test/), or lists. class_order, preprocess: as in [data]; without an order the one that the model agrees with.
    Raises InputError when the file exists and `force` is not set, when the checkpoint does not fit the model,
    and for folders that are no sound image data.
    """
    from wdp_edge.data.classes import settled
    from wdp_edge.data.folder import check_apart, resolve_data
    from wdp_edge.data.listed import images_at
    from wdp_edge.models.weight_files import kind_of

    path = folder / RECIPE_FILE
    merge(Recipe(), {"model.args": dict(model.args)})  # before they are given to timm
    if path.exists() and not force:
        raise InputError(f"{path} exists.", "Edit it, or write it anew with --force.")
    kind_of(Path(model.checkpoint))
    facts = facts_of(model.task)
    places = resolve_data(data, facts.labels)
    train, val = (images_at(place, facts.labels) for place in places)
    check_apart(train, val)
    if facts.named_classes:
        model = replace(model, num_classes=model.num_classes or _count(train, class_order))
        train, val = settled(train, val, model.num_classes, class_order)
    elif facts.output.of_classes and not model.num_classes:
        raise InputError("The number of classes is not set.", "Give --num-classes: masks do not tell it.")
    given = parse_settings(preprocess or {})
    model, dense, choice = _checked(model)
    first = _FirstLook(class_order or ALPHABETICAL)
    if not facts.relative:
        first = _first_look(model, dense, (train, val), class_order, given)
    recipe = merge(
        Recipe(),
        {
            "data.class_order": first.order if first.order in _ORDERS else _from(folder, Path(first.order)),
            "data.preprocess": given,
            "model.name": model.name,
            "model.args": model.args,
            "model.task": model.task,
            "model.num_classes": model.num_classes,
            "model.head_channels": model.head_channels,
            "model.head_blocks": model.head_blocks,
            "model.checkpoint_key": model.checkpoint_key,
            "model.checkpoint": _from(folder, Path(model.checkpoint)),
            "data.train": _from(folder, places[0]),
            "data.val": _from(folder, places[1]),
        },
    )
    write_text(path, dump_recipe(recipe, comments=True))
    left_out = {name: dict(part.left_out) for name, part in (("train", train), ("val", val)) if part.left_out}
    return InitResult(
        path=path,
        model=model.name,
        num_classes=model.num_classes,
        train_images=len(train),
        val_images=len(val),
        head_blocks=model.head_blocks,
        left_out=left_out,
        class_order=first.order,
        order_metric=first.metric,
        order_images=first.images,
        warnings=first.warnings,
        task=model.task,
        weights=choice,
    )


def project_recipe(
    folder: Path, overrides: Mapping[str, Any], names: Mapping[str, str], needs: Sequence[str]
) -> Recipe:
    """The recipe of the project in `folder`: defaults, then its wdp-edge.toml, then `overrides`.

    names: what messages call an overridden setting. needs: settings that must not be empty.
    Raises InputError like `load_recipe` and `merge`, and when something needed is missing.
    """
    path = folder / RECIPE_FILE
    recipe = merge(load_recipe(path) if path.exists() else Recipe(), overrides, names)
    missing = [key for key in needs if not _setting(recipe, key)]
    if missing and not path.exists() and {"model.name", "data.train"} & set(missing):
        raise InputError(
            f"There is no {RECIPE_FILE} in this folder{_NEITHER if 'model.name' in names else ''}.",
            "`wdp-edge init` writes one for your model and images; `wdp-edge demo` shows the whole loop.",
        )
    if missing:
        what, setting, option = _MISSING[missing[0]]
        hints = {option.partition(" ")[0]: f"Give {option}, or set {setting} of {RECIPE_FILE}."}
        raise InputError(f"There is no {what}.", f"Set {setting} of {RECIPE_FILE}.", hints)
    return recipe


def project_budgets(folder: Path) -> tuple[BudgetRecipe, ...]:
    """Every [[budget]] of the project's wdp-edge.toml; none where there is no such file."""
    path = folder / RECIPE_FILE
    return load_recipe(path).budget if path.exists() else ()


def length_settings(epochs: float | None, images: int | None) -> dict[str, Any]:
    """How long to train, by dotted key: what is said last must win over the other kind in wdp-edge.toml.

    Raises InputError when both are given.
    """
    if epochs is not None and images is not None:
        raise InputError("--epochs and --images both say how long to train.", "Give one of them.")
    if images is not None:
        return {"prune.images": images, "prune.epochs": 0.0}
    if epochs is None:
        return {}
    return {"prune.epochs": epochs} | ({"prune.images": 0} if epochs == 0 else {})


def find_run(folder: Path, run: Path | None) -> Path:
    """`run`, or else the run that the project in `folder` names, or else its latest one.

    Raises InputError when there is none.
    """
    if run is not None:
        return run
    from wdp_edge.run import latest_run

    path = folder / RECIPE_FILE
    own = load_recipe(path).prune.out if path.exists() else ""
    return latest_run(Path(own) if own else folder)


@dataclass(frozen=True)
class _FirstLook:
    """What the dense model says of some training images: see `InitResult`."""

    order: str = ALPHABETICAL
    metric: dict[str, float] | None = None
    images: int | None = None
    warnings: list[str] = field(default_factory=list)


def _first_look(
    model: ModelRecipe,
    dense: Any,
    images: tuple[ImageFolder, ImageFolder],
    class_order: str,
    preprocess: dict[str, Any],
) -> _FirstLook:
    """images: training and validation images. class_order: "" lets the model choose."""
    from wdp_edge.data.classes import absent, in_order
    from wdp_edge.data.preprocess import preprocessing_of
    from wdp_edge.pipeline.plausible import doubts, fitting_order, look, renumbered

    facts, (train, val) = facts_of(model.task), images
    if facts.labels is Labels.MASK:
        train = train.with_classes(tuple(map(str, range(model.num_classes))))
    seen, said = look(dense, train, preprocessing_of(dense, preprocess), model.task)
    found = fitting_order(seen) if class_order in ("", *_ORDERS) else None
    order = class_order or (found.order if found else ALPHABETICAL)
    if found:
        seen = renumbered(seen, in_order(train, order, model.num_classes).classes)
    gaps = absent(train, val) if facts.named_classes and facts.labels is Labels.ONE else []
    warnings = said + doubts(seen) + gaps
    return _FirstLook(order, found.figures if found else None, found.images if found else None, warnings)


def _count(train: ImageFolder, class_order: str) -> int:
    """Classes of the model where nothing says how many. Raises InputError where class numbers do not begin with 0."""
    from wdp_edge.data.classes import in_order

    if train.numbered and 0 not in train.present() and class_order in ("", *_ORDERS):
        raise InputError(
            f"No image in {train.root} has the class 0, but whole numbers are class numbers, from 0.",
            "Where they start at 1, subtract 1 from each label; else give --num-classes, the classes of the model.",
        )
    return len(in_order(train, class_order, len(train.classes)).classes)


def _checked(model: ModelRecipe) -> tuple[ModelRecipe, Any, str]:
    """With the head and the weights that were found; the dense model; what was chosen among several sets of weights.

    Raises InputError unless the checkpoint fits the model.
    A checkpoint says how many blocks its head reads, but not which: the last ones are taken.
    """
    with task("Reading the checkpoint", 2) as advance:
        from wdp_edge.models.checkpoints import read_checkpoint
        from wdp_edge.models.files import load_dense
        from wdp_edge.models.spec import ModelSpec

        advance(1)
        found = read_checkpoint(Path(model.checkpoint), model.checkpoint_key)
        model = replace(model, checkpoint_key=found.taken if found.others else model.checkpoint_key)
        if facts_of(model.task).output is Output.MAP:
            model = _with_map_head(model, found.tensors)
        loaded = load_dense(ModelSpec.of(model), Path(model.checkpoint), model.checkpoint_key)
        advance(1)
    return model, loaded, found.choice


def _with_map_head(model: ModelRecipe, weights: Mapping[str, Tensor]) -> ModelRecipe:
    from wdp_edge.models.files import head_channels, head_inputs
    from wdp_edge.models.spec import ModelSpec, create
    from wdp_edge.models.vit import structure_of

    model = replace(model, head_channels=head_channels(weights))
    dense = structure_of(create(ModelSpec.of(model)))
    read = min(dense.depth, head_inputs(weights) // dense.embed_dim)
    if read > 1 and not model.head_blocks:
        blocks = range(dense.depth - read + 1, dense.depth + 1)
        model = replace(model, head_blocks=",".join(map(str, blocks)))
    return model


def _from(folder: Path, path: Path) -> str:
    """`path` as the recipe in `folder` must write it: relative paths in a recipe start at its folder."""
    return str(path) if path.is_absolute() else os.path.relpath(path, folder)


def _setting(recipe: Recipe, dotted: str) -> Any:
    value: Any = recipe
    for part in dotted.split("."):
        value = getattr(value, part)
    return value
