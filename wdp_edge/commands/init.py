"""A project: a folder with a wdp-edge.toml, a trained model and images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.commands.brought import ORDERS, check_labelled, found_images, proposed, settled_images
from wdp_edge.config.budgets import BUDGETS
from wdp_edge.config.file import HEAD_FILE, dump_recipe, load_recipe, merge
from wdp_edge.config.file import RECIPE_FILE as RECIPE_FILE
from wdp_edge.config.recipe import BudgetRecipe, ModelRecipe, Recipe
from wdp_edge.data.preprocess import parse_settings
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_text
from wdp_edge.progress import task
from wdp_edge.protocols.task import ALPHABETICAL, Output, facts_of
from wdp_edge.runs.look import FirstLook
from wdp_edge.runs.results import RESULT_VERSION

if TYPE_CHECKING:
    from torch import Tensor

    from wdp_edge.commands.beside import Told
    from wdp_edge.commands.init_data import Parts
    from wdp_edge.heads.attach import HeadFigures, WithHead
    from wdp_edge.models.originals import Comparison

BUDGET = "prune.latency_budget"
"""As needed by `project_recipe`: a budget of this kind or another."""
_MISSING = {
    "model.name": ("model", "name in [model]", "--model NAME"),
    "model.checkpoint": ("checkpoint", "checkpoint in [model]", "--checkpoint FILE"),
    "data.train": ("training images", "train in [data]", "--train FOLDER or --data FOLDER"),
    "data.val": ("validation images", "val in [data]", "--val FOLDER or --data FOLDER"),
    BUDGET: (
        "budget",
        "latency_budget (or macs_budget, or keep) in [prune]",
        "--latency-budget 20ms (or 50% of the dense model), --macs-budget 50% or --keep 0.7",
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
    why: what the model was recognised by, where it was not named. args: of timm.create_model. notes: what was made of
    images without labels, and what was taken from the files beside the checkpoint. checked: the comparison with the
    original, if asked. head: the one that was fitted, if asked. first_look: how good the dense model is on training
    images; None where nothing tells.
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
    why: list[str] = field(default_factory=list)
    args: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    checked: Comparison | None = None
    head: HeadFigures | None = None
    first_look: FirstLook | None = None
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class Origin:
    """Where a model comes from besides a checkpoint, and what is done with it first.

    check_against: "hf" compares the model with what Hugging Face transformers makes of the checkpoint's folder.
    from_python: "module:function" that returns a timm model, in place of a checkpoint; this runs the user's code.
    fit_head: write a checkpoint of the model with a new head, fitted to the training images, and go on with that.
    """

    check_against: str = ""
    from_python: str = ""
    fit_head: bool = False


_AS_IT_IS = Origin()


def init(
    model: ModelRecipe,
    data: Path,
    folder: Path = Path(),
    force: bool = False,
    class_order: str = "",
    preprocess: Mapping[str, Any] | None = None,
    origin: Origin = _AS_IT_IS,
) -> InitResult:
    """Writes wdp-edge.toml into `folder` after reading the checkpoint and listing the images.

    The dense model looks at some training images, which tells whether it makes sense of them.

    model: num_classes = 0 takes the number of classes found where labels name them, or else the head's. data: as
    `parts_of` takes it; for images without labels the task may become another one. class_order, preprocess: as in
    [data]; without an order the one that the model agrees with.
    What was not given is taken from the files that stand beside the checkpoint, such as config.json.
    Raises InputError when the file exists and `force` is not set, when the checkpoint or what stands beside it does not
    fit the model, where the original computes something else, and for folders that are no sound image data.
    """
    from wdp_edge.commands import check_against as original
    from wdp_edge.commands.first_look import first_look

    path = folder / RECIPE_FILE
    _check_asked(model, path, force, origin)
    given = parse_settings(preprocess or {})
    brought = _brought(model, data, _Place(folder, force), class_order, given, origin)
    model, found, beside, given = brought.model, brought.found, brought.beside, dict(brought.beside.preprocess)
    headed = _with_head(model, found, given) if origin.fit_head else None
    model, dense, choice = (model, headed.module, headed.choice) if headed else _checked(model)
    checked = original.check_against(model, dense, found.train, given) if origin.check_against else None
    folders = found.train, found.val
    first = first_look(model, dense, found.facts, folders, found.labelled, brought.class_order, given)
    found.write_lists()
    if headed:
        model = headed.written(model, folder / HEAD_FILE)
    write_text(path, dump_recipe(_recipe(folder, model, found, first.order, given), comments=True))
    parts = (("train", found.train), ("val", found.val))
    return InitResult(
        path=path,
        model=model.name,
        num_classes=model.num_classes,
        train_images=len(found.train),
        val_images=len(found.val),
        head_blocks=model.head_blocks,
        left_out={name: dict(part.left_out) for name, part in parts if part.left_out},
        class_order=first.order,
        order_metric=first.metric,
        order_images=first.images,
        warnings=list(dict.fromkeys([*beside.warnings, *(headed.warnings if headed else ()), *first.warnings])),
        task=model.task,
        weights=choice,
        why=brought.why,
        args=dict(model.args),
        notes=[*found.said, *beside.notes],
        checked=checked,
        head=headed.figures if headed else None,
        first_look=first.look,
    )


@dataclass(frozen=True)
class _Place:
    """The project's folder, and whether what `init` wrote there before may be overwritten."""

    folder: Path
    force: bool


@dataclass(frozen=True)
class _Brought:
    """The model and its images as they came, and what the files beside them tell. why: see `InitResult`."""

    model: ModelRecipe
    found: Parts
    class_order: str
    beside: Told
    why: list[str]


def _brought(
    model: ModelRecipe, data: Path, place: _Place, class_order: str, given: dict[str, Any], origin: Origin
) -> _Brought:
    """given: preprocessing that the user chose."""
    from wdp_edge.commands import from_python as python
    from wdp_edge.commands.beside import class_order as order_beside
    from wdp_edge.commands.beside import told

    why, own_args, classes = list[str](), set(model.args), model.num_classes
    if not model.name and not origin.from_python:
        model, why = proposed(model)
    model, found = found_images(model, data, place.folder)
    if origin.fit_head:
        check_labelled(found)
    if origin.from_python:
        model, beside = python.from_python(origin.from_python, model, given, found.train, place.folder)
    else:
        beside = told(model, own_args, given)
    if origin.fit_head:  # of the labels, not of a head that goes
        model, class_order = replace(model, num_classes=classes), class_order or ALPHABETICAL
    elif not class_order:
        class_order, beside = order_beside(beside, model, found.labelled, place.folder, place.force)
    return _Brought(*settled_images(model, found, class_order), class_order, beside, why)


def _check_asked(model: ModelRecipe, path: Path, force: bool, origin: Origin) -> None:
    """Raises InputError and SetupError for what can be known before anything is loaded. path: of the recipe."""
    from wdp_edge.commands import check_against as original
    from wdp_edge.commands import from_python as python
    from wdp_edge.models.weight_files import kind_of
    from wdp_edge.models.weight_folders import weight_files

    merge(Recipe(), {"model.args": dict(model.args)})  # before they are given to timm
    if path.exists() and not force:
        raise InputError(f"{path} exists.", "Edit it, or write it anew with --force.")
    if origin.fit_head:
        from wdp_edge.heads.attach import check_possible

        check_possible(model, path.with_name(HEAD_FILE), force)
        if origin.check_against:
            raise InputError(
                "--check-against compares the checkpoint's own head, which --fit-head leaves out.",
                "Check it first, with --task features in place of --fit-head.",
            )
    if origin.from_python:
        python.check_asked(model, path.parent, force, origin.check_against)
        return
    if not model.checkpoint:
        raise InputError(
            "There is no model: neither a checkpoint nor a function that makes one.",
            "Give --checkpoint FILE, or --from-python MODULE:FUNCTION.",
        )
    for file in weight_files(Path(model.checkpoint)):
        kind_of(file)
    if origin.check_against:
        original.check_source(origin.check_against, model)


def _with_head(model: ModelRecipe, found: Parts, preprocess: dict[str, Any]) -> WithHead:
    from wdp_edge.heads.attach import attach

    return attach(model, found.train, found.val, preprocess)


def _recipe(folder: Path, model: ModelRecipe, found: Parts, order: str, preprocess: dict[str, Any]) -> Recipe:
    """What is written into `folder`."""
    settings = (
        "name",
        "args",
        "task",
        "num_classes",
        "head_channels",
        "head_blocks",
        "checkpoint_key",
        "checkpoint_prefix",
    )
    train, val = (place.name if place in found.lists else _from(folder, place) for place in found.places)
    return merge(
        Recipe(),
        {
            "data.class_order": order if order in ORDERS else _from(folder, Path(order)),
            "data.preprocess": preprocess,
            **{f"model.{name}": getattr(model, name) for name in settings},
            "model.checkpoint": _from(folder, Path(model.checkpoint)),
            "data.train": train,
            "data.val": val,
        },
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
    missing = [key for key in needs if not _is_set(recipe, key)]
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


def budget_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of these settings by dotted key the budget, which must win over one of another kind in wdp-edge.toml.

    Raises InputError for budgets of two kinds.
    """
    named = [f"--{name.replace('_', '-')}" for name in BUDGETS if f"prune.{name}" in given]
    if len(named) > 1:
        raise InputError(f"{' and '.join(named)} are budgets, and a run has one.", "Give one of them.")
    return {f"prune.{name}": given.get(f"prune.{name}", "") for name in BUDGETS} if named else {}


def find_run(folder: Path, run: Path | None) -> Path:
    """`run`, or else the run that the project in `folder` names, or else its latest one.

    Raises InputError when there is none.
    """
    if run is not None:
        return run
    from wdp_edge.runs.run import latest_run

    path = folder / RECIPE_FILE
    own = load_recipe(path).prune.out if path.exists() else ""
    return latest_run(Path(own) if own else folder)


def _checked(model: ModelRecipe) -> tuple[ModelRecipe, Any, str]:
    """With the head and the weights that were found; the dense model; what was chosen among several sets of weights.

    Raises InputError unless the checkpoint fits the model.
    A checkpoint says how many blocks its head reads, but not which: the last ones are taken.
    """
    with task("Reading the checkpoint", 2) as advance:
        from wdp_edge.models.checkpoints import read_checkpoint
        from wdp_edge.models.files import load_dense
        from wdp_edge.models.fitting import head_classes
        from wdp_edge.models.spec import ModelSpec

        advance(1)
        found = read_checkpoint(Path(model.checkpoint), model.checkpoint_key, model.checkpoint_prefix)
        model = replace(model, checkpoint_key=found.entry, checkpoint_prefix=found.prefix)
        if facts_of(model.task).output.of_classes and not model.num_classes:
            model = replace(model, num_classes=head_classes(found.tensors))
        if facts_of(model.task).output is Output.MAP:
            model = _with_map_head(model, found.tensors)
        place = Path(model.checkpoint), model.checkpoint_key, model.checkpoint_prefix
        loaded = load_dense(ModelSpec.of(model), *place)
        advance(1)
    return model, loaded, found.choice


def _with_map_head(model: ModelRecipe, weights: Mapping[str, Tensor]) -> ModelRecipe:
    from wdp_edge.models.fitting import head_channels, head_inputs
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


def _is_set(recipe: Recipe, dotted: str) -> bool:
    if dotted == BUDGET:
        return any(getattr(recipe.prune, name) for name in BUDGETS)
    value: Any = recipe
    for part in dotted.split("."):
        value = getattr(value, part)
    return bool(value)
