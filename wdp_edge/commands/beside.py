"""What `init` takes from the files beside the weights: preprocessing and the order of classes; what it warns of."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.data.preprocess import parse_settings
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_text
from wdp_edge.protocols.task import ALPHABETICAL, NATURAL, facts_of

if TYPE_CHECKING:
    from wdp_edge.data.folder import ImageFolder

CLASS_NAMES = "class_names.txt"
_SHOWN = 3


@dataclass(frozen=True)
class Told:
    """preprocess: as in [data], what the user gave among it. classes: names in the model's order, () where nothing
    tells. config: the file that names them. notes, warnings: sentences for the user.
    """

    preprocess: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    config: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def told(model: ModelRecipe, given: Collection[str], preprocess: Mapping[str, Any]) -> Told:
    """given: names of arguments of the model that the user chose. preprocess: settings that the user chose; both win.

    Raises InputError where the files say that the named model computes something else with these weights.
    """
    from wdp_edge.models.recognise.agreement import disagreements
    from wdp_edge.models.recognise.beside import beside

    known = beside(Path(model.checkpoint))
    own, warnings = disagreements(model.name, model.args, given, known)
    if not own:
        return Told(preprocess, warnings=tuple(warnings))
    found: dict[str, Any] = {}
    for name, value in known.preprocess.items():
        if name in preprocess:
            continue
        try:
            found |= parse_settings({name: value})
        except InputError as error:
            hint = f"Give what the model was trained with: --preprocess {name}=…"
            raise InputError(f"{known.images} beside the weights: {error.message}", hint) from error
    notes: tuple[str, ...] = ()
    if found:
        settings = ", ".join(f"{name} {_shown(value)}" for name, value in found.items())
        notes = (f"Preprocessing from {known.images} beside the weights: {settings}.",)
    return Told({**found, **preprocess}, known.classes, known.config, notes, tuple(warnings))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(f"{number:.4g}" for number in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def class_order(told: Told, model: ModelRecipe, train: ImageFolder, folder: Path, force: bool) -> tuple[str, Told]:
    """The order in which the files beside the weights name the classes, as in [data]; "" where they do not.

    An order that has no name of its own is written into `folder`; images without labels leave nothing else to name
    classes by. Raises InputError where another file stands there.
    """
    facts = facts_of(model.task)
    if not told.classes or not (facts.named_classes or facts.of_answers) or train.numbered:
        return "", told
    from wdp_edge.data.classes import arranged

    names = _as_folders(told.classes, train.classes)
    if lacking := sorted(set(train.classes) - set(names)):
        common = len(train.classes) - len(lacking)
        if not common:
            return "", told  # other words for the classes, such as those of ImageNet beside folders of synsets
        return "", _warned(told, f"which lacks {_some(lacking)} of the training images: its order is not used")
    rows = model.num_classes or _head_rows(model)
    if rows not in (0, len(names)):
        return "", _warned(told, f"not {rows}: their order is not used")
    # Such a word orders the classes that there are images of.
    for order in (ALPHABETICAL, NATURAL) if len(names) == len(train.classes) else ():
        if arranged(names, order) == names:
            note = f"The classes are in {order} order, as {told.config} beside the weights names them."
            return order, replace(told, notes=(*told.notes, note)) if order != ALPHABETICAL else told
    path = folder / CLASS_NAMES
    text = "".join(f"{name}\n" for name in names)
    if path.exists() and not force and path.read_bytes() != text.encode():
        raise InputError(
            f"{path} exists, and {told.config} beside the weights names the classes in another order.",
            "Name the right one with --class-order, or write the file anew with --force.",
        )
    write_text(path, text)
    note = (
        f"Wrote {path}: the classes in the order in which {told.config} beside the weights names them ({_some(names)})."
    )
    return str(path), replace(told, notes=(*told.notes, note))


def _head_rows(model: ModelRecipe) -> int:
    """Classes of the checkpoint's head; 0 where it has none that shows them."""
    from wdp_edge.models.checkpoints import read_checkpoint
    from wdp_edge.models.fitting import head_classes

    found = read_checkpoint(Path(model.checkpoint), model.checkpoint_key, model.checkpoint_prefix)
    return head_classes(found.tensors)


def _warned(told: Told, text: str) -> Told:
    sentence = f"{told.config} beside the weights names {len(told.classes)} classes ({_some(told.classes)}), {text}."
    return replace(told, warnings=(*told.warnings, sentence))


def _as_folders(classes: tuple[str, ...], folders: tuple[str, ...]) -> tuple[str, ...]:
    """The model's classes by the images' words for them, where only case, spaces, hyphens and underscores differ."""
    spelled = {_plain(name): name for name in folders}
    if len(spelled) < len(folders) or len({_plain(name) for name in classes}) < len(classes):
        return classes
    return tuple(name if name in folders else spelled.get(_plain(name), name) for name in classes)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
