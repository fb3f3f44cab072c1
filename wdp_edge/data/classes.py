"""The order in which names are the model's classes."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from wdp_edge.data.folder import ImageFolder, check_classes
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import ALPHABETICAL, NATURAL, Facts, Labels


def natural_key(name: str) -> list[Any]:
    """Digits count as numbers and case does not: how timm orders class folders (timm.utils.misc.natural_key)."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name.lower()))]


def arranged(names: Collection[str], order: str) -> tuple[str, ...]:
    """The model's classes in their order.

    order: "alphabetical" as torchvision has folders, "natural" as timm has them, or a text file with one name a line,
    which may name classes that are not among `names`.
    Raises InputError for a file that cannot be read or lacks a name.
    """
    if order in ("", ALPHABETICAL):
        return tuple(sorted(names))
    if order == NATURAL:
        return tuple(sorted(sorted(names), key=natural_key))
    return _from_file(names, Path(order))


def _from_file(names: Collection[str], path: Path) -> tuple[str, ...]:
    whole = _lines(path)
    first = [re.split(r"[\s,;:]", line, maxsplit=1)[0] for line in whole]
    # Such as "n01440764 tench, Tinca tinca" for folders called n01440764.
    lines = first if len(set(names) & set(first)) > len(set(names) & set(whole)) else whole
    if missing := sorted(set(names) - set(lines)):
        raise InputError(
            f"{path} does not name the class '{missing[0]}' of the training images.",
            "Give one name per line, as folders or labels have it, in the order of the model's classes.",
        )
    if len(set(lines)) < len(lines):
        twice = next(line for line in lines if lines.count(line) > 1)
        raise InputError(f"{path} names the class '{twice}' twice.", "Give one name per line, each once.")
    return tuple(lines)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The list of class names {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.",
            f"Set class_order in [data] (--class-order of init) to {ALPHABETICAL}, {NATURAL}, or a text file with one "
            "name per line.",
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def in_order(folder: ImageFolder, order: str, num_classes: int = 0) -> ImageFolder:
    """The folder with the classes in this order. num_classes: how many there are where labels are numbers.

    Class numbers stay as they are; a file gives them names. Raises InputError like `arranged`.
    """
    if not folder.numbered:
        return folder.with_classes(arranged(folder.classes, order))
    if order in ("", ALPHABETICAL, NATURAL):
        return folder.with_classes(tuple(map(str, range(num_classes))))
    return folder.with_classes(_from_file((), Path(order)))


def unlabelled_names(num_classes: int, order: str) -> tuple[str, ...]:
    """The model's classes where images have no labels: those of a file, or their numbers.

    Raises InputError for a file that cannot be read or names another number of classes.
    """
    if not num_classes or order in ("", ALPHABETICAL, NATURAL):
        return tuple(map(str, range(num_classes)))
    names = _from_file((), Path(order))
    if len(names) != num_classes:
        raise InputError(
            f"{order} names {len(names)} classes, the model has {num_classes}.",
            "Give one name per line, in the order of the model's classes.",
        )
    return names


def settled(
    train: ImageFolder, val: ImageFolder, num_classes: int, order: str = ALPHABETICAL
) -> tuple[ImageFolder, ImageFolder]:
    """Training and validation images with the model's classes in their order; either may lack some of them.

    Training images may also have no labels. Raises InputError like `arranged` and `check_classes`.
    """
    if not train.classes:
        val = in_order(val, order, num_classes)
        check_classes(val, val, num_classes)
        return train, val
    train = in_order(train, order, num_classes)
    val = val.with_classes(train.classes)
    check_classes(train, val, num_classes)
    return train, val


def absent(train: ImageFolder, val: ImageFolder, facts: Facts) -> list[str]:
    """What to say of classes that have no images; nothing where an image may have none or several."""
    if not (facts.named_classes and facts.labels is Labels.ONE):
        return []
    said = []
    for what, folder in (("training", train), ("validation", val)):
        present = folder.present() if folder.classes else set()
        if gone := [name for number, name in enumerate(folder.classes) if number not in present]:
            some = ", ".join(gone[:3]) + (", …" if len(gone) > 3 else "")
            said.append(
                f"{len(gone)} of the model's {len(folder.classes)} classes have no {what} images ({some}): "
                + (
                    "nothing can be learned about them."
                    if what == "training"
                    else "the final figures say nothing about them."
                )
            )
    return said
