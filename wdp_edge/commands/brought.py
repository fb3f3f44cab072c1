"""What a user brings to `init` and `fit-head`: the model that a checkpoint shows, and images by its classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.errors import InputError
from wdp_edge.progress import task
from wdp_edge.protocols.task import ALPHABETICAL, NATURAL, Labels, facts_of

if TYPE_CHECKING:
    from wdp_edge.commands.init_data import Parts
    from wdp_edge.data.folder import ImageFolder

ORDERS = (ALPHABETICAL, NATURAL)


def proposed(model: ModelRecipe) -> tuple[ModelRecipe, list[str]]:
    """With the name and the arguments that the checkpoint shows, what was given wins; and what told them."""
    with task("Recognising the checkpoint", 1) as advance:
        from wdp_edge.models.checkpoints import read_checkpoint
        from wdp_edge.models.recognise.proposal import propose

        path = Path(model.checkpoint)
        found = propose(read_checkpoint(path, model.checkpoint_key, model.checkpoint_prefix), path, model.args)
        advance(1)
    classes = model.num_classes or (found.num_classes if facts_of(model.task).output.of_classes else 0)
    return replace(model, name=found.name, args=found.args, num_classes=classes), list(found.why)


def found_images(model: ModelRecipe, data: Path, folder: Path) -> tuple[ModelRecipe, Parts]:
    """The images as they lie there, and the model with the task that they allow.

    Raises InputError for folders that are no sound image data.
    """
    from wdp_edge.commands.init_data import parts_of
    from wdp_edge.data.folder import check_apart

    found = parts_of(data, model.task, folder)
    check_apart(found.train, found.val)
    return replace(model, task=found.facts.name), found


def check_labelled(found: Parts) -> None:
    """Raises InputError for training images without labels, which no head can be fitted to."""
    if not found.facts.named_classes or not found.train.classes:
        raise InputError(
            f"{found.places[0]} holds images without labels; a head is fitted to labelled ones.",
            "Give class folders, or lists with the columns path and label: train and val (or test), in one folder.",
        )


def settled_images(model: ModelRecipe, found: Parts, class_order: str) -> tuple[ModelRecipe, Parts]:
    """The model with the number of classes that labels tell, and the images by these.

    Raises InputError where nothing tells them.
    """
    from wdp_edge.data.classes import settled

    facts = found.facts
    if facts.named_classes:
        model = replace(model, num_classes=model.num_classes or _count(found.labelled, class_order))
        train, val = settled(found.train, found.val, model.num_classes, class_order)
        return model, replace(found, train=train, val=val)
    if facts.labels is Labels.MASK and not model.num_classes:
        raise InputError("The number of classes is not set.", "Give --num-classes: masks do not tell it.")
    return model, found


def _count(train: ImageFolder, class_order: str) -> int:
    """Classes of the model where nothing says how many. Raises InputError where class numbers do not begin with 0."""
    from wdp_edge.data.classes import in_order

    if train.numbered and 0 not in train.present() and class_order in ("", *ORDERS):
        raise InputError(
            f"No image in {train.root} has the class 0, but whole numbers are class numbers, from 0.",
            "Where they start at 1, subtract 1 from each label; else give --num-classes, the classes of the model.",
        )
    return len(in_order(train, class_order, len(train.classes)).classes)
