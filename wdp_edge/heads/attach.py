"""A trained backbone with a linear head fitted to labelled images: a classifier like any other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from wdp_edge.config.recipe import DataRecipe, ModelRecipe
from wdp_edge.data.classes import absent
from wdp_edge.data.folder import ImageFolder, check_counted
from wdp_edge.data.loading import labels_of
from wdp_edge.data.preprocess import channels_of, preprocessing_of
from wdp_edge.data.split import HELD_SHARE, hold_out
from wdp_edge.errors import InputError
from wdp_edge.heads.features import Features
from wdp_edge.heads.fit import Tried, fit
from wdp_edge.io.files import write_bytes
from wdp_edge.models import vit
from wdp_edge.models.checkpoints import Weights, read_checkpoint
from wdp_edge.models.files import load_dense
from wdp_edge.models.fitting import head_of
from wdp_edge.models.forms import check_forward
from wdp_edge.models.pixels import take_rgb
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output, defined, facts_of, get_task
from wdp_edge.pruning.plausible import guessed_as_well

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class HeadFigures:
    """How good a fitted head is. metric: the task's, which all figures are of.

    held_back: of a head that has not seen these training images; the strength of the penalty was chosen on them. val:
    of the head itself, fitted to all training images. chance: on validation images, of the answer that needs no image
    (the commonest class, or for several labels any order). replaced: what head the checkpoint had; "" for none.
    seconds: for everything.
    """

    metric: str
    train_images: int
    held_back_images: int
    held_back: float
    val_images: int
    val: float
    chance: float
    strength: float
    tried: tuple[Tried, ...]
    replaced: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class WithHead:
    """module: the whole model. choice: which of several sets of weights was taken, and the others."""

    module: nn.Module
    figures: HeadFigures
    choice: str = ""
    warnings: list[str] = field(default_factory=list)

    def written(self, model: ModelRecipe, path: Path) -> ModelRecipe:
        """The recipe of the model, once it is at `path` as a checkpoint with timm's names."""
        write_bytes(path, save({name: value.contiguous() for name, value in self.module.state_dict().items()}))
        return replace(model, checkpoint=str(path), checkpoint_key="", checkpoint_prefix="")


def check_possible(model: ModelRecipe, out: Path, force: bool) -> None:
    """Raises InputError for a task without such a head, and where `out` must not be written."""
    facts = facts_of(model.task)
    if facts.output is Output.MAP:
        raise InputError(
            f"The head of the task '{model.task}' reads every patch and learns from masks: none is fitted for it.",
            "Give weights with a trained head; heads are fitted for classify and multilabel.",
        )
    if facts.output is not Output.LOGITS:
        raise InputError(
            f"The task '{model.task}' needs no head: its model puts out what a head would read.",
            f"Use `wdp-edge init --task {model.task}`.",
            {"--fit-head": "Leave out --fit-head."},
        )
    if out.suffix != SUFFIX:
        raise InputError(
            f"{out} does not end in {SUFFIX}, which is what is written.",
            "Name it so.",
            {"--out": "Name it so with --out."},
        )
    if out.is_dir():
        raise InputError(f"{out} is a folder.", "Name a file.", {"--out": "Name a file with --out."})
    if out.exists() and Path(model.checkpoint).exists() and out.samefile(model.checkpoint):
        raise InputError(f"{out} is the checkpoint itself.", "Move it.", {"--out": "Name another file with --out."})
    if out.exists() and not force:
        raise InputError(
            f"{out} exists.",
            "Overwrite it with --force.",
            {"--fit-head": f"Use it with --checkpoint {out} instead of --fit-head, or make it anew with --force."},
        )


def attach(
    model: ModelRecipe, train: ImageFolder, val: ImageFolder, preprocess: Mapping[str, Any], seed: int = 0
) -> WithHead:
    """Fits a head to the training images. Validation images decide nothing: they give a figure at the end.

    train, val: with the model's classes. preprocess: as in [data]. seed: of the choice of images to hold back.
    Raises InputError as `load_dense` and `Features.of` do, and for images of which none can be held back.
    """
    began, facts = time.monotonic(), facts_of(model.task)
    check_counted(val, facts)
    found = read_checkpoint(Path(model.checkpoint), model.checkpoint_key, model.checkpoint_prefix)
    spec = ModelSpec.of(model)
    place = Path(model.checkpoint), model.checkpoint_key, model.checkpoint_prefix
    module = load_dense(spec, *place, new_head=True)
    _check_enough(train, seed)
    reading = take_rgb(module, channels_of(preprocess))  # not `module`, whose weights are written as they came
    features = Features(reading, preprocessing_of(module, preprocess), DataRecipe().workers)
    learned, judged = (features.of(one, f"{what} images") for one, what in ((train, "training"), (val, "validation")))
    learn, held = _check_enough(learned.images, seed)
    labels, known = (labels_of(one.images, range(len(one.images))) for one in (learned, judged))
    fitted = fit(learned.features, labels, model.num_classes, learn, held)
    vit.set_classifier(module, fitted.head.weight, fitted.head.bias)
    check_forward(module, spec.name, spec.args, spec.output, spec.num_classes)
    features.release(train, val)
    outputs = fitted.head(judged.features)
    figures = HeadFigures(
        metric=facts.metric,
        train_images=len(labels),
        held_back_images=len(held),
        held_back=_metric(model.task, fitted.blind(learned.features[held]), labels[held], "the held-back images"),
        val_images=len(known),
        val=_metric(model.task, outputs, known, str(val.root)),
        chance=_chance(labels, known),
        strength=fitted.strength,
        tried=fitted.tried,
        replaced=_own_head(found),
        seconds=time.monotonic() - began,
    )
    said = [one.left_out for one in (learned, judged) if one.left_out]
    said += absent(learned.images, judged.images, facts) + _doubts(figures, outputs, known)
    return WithHead(module, figures, found.choice, said)


def _check_enough(train: ImageFolder, seed: int) -> tuple[list[int], list[int]]:
    """Indices to learn from and to hold back. Raises InputError where there are none to hold back."""
    learn, held = hold_out(train, max(1, len(train) // HELD_SHARE), seed)
    if not held:
        raise InputError(
            f"{train.root} holds one image of each class, so that none can be held back to choose by.",
            "Give classes two images at least, better ten.",
        )
    return learn, held


def _own_head(found: Weights) -> str:
    """What head a checkpoint has, in words."""
    own = head_of(found.tensors)
    last = [value for value in own.values() if value.ndim > 1][-1:]
    return f"one with {len(last[0])} outputs" if last else ""


def _metric(task: str, outputs: Tensor, labels: Tensor, where: str) -> float:
    values = get_task(task).metrics(outputs, labels, None)
    return defined(next(iter(values.values())), facts_of(task).metric, where)


def _chance(labels: Tensor, known: Tensor) -> float:
    """labels, known: of training and of validation images."""
    if labels.ndim == 1:
        return float((known == labels.bincount().argmax()).float().mean())
    shown = known[:, known.any(0)]
    return float(shown.mean())  # the mean average precision of any order, but for rounding


def _doubts(figures: HeadFigures, outputs: Tensor, known: Tensor) -> list[str]:
    """What is to be said of a head that has learned nothing."""
    none = figures.val <= figures.chance
    if known.ndim == 1:
        none = guessed_as_well(int((outputs.argmax(1) == known).sum()), len(known), figures.chance)
    if not none:
        return []
    return [
        f"The fitted head is no better than chance on {figures.val_images} validation images: {figures.metric} "
        f"{figures.val:.1%}, {figures.chance:.1%} without looking. Usual reasons: labels that do not belong to these "
        "images; images prepared otherwise than in training (--preprocess: mean, std, interpolation, crop_pct); "
        "too few images; a backbone that was not trained."
    ]
