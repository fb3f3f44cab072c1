"""What `init` makes of `--data`: training and validation images, with labels where there are any."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from wdp_edge.data.folder import LISTS, ImageFolder, holds_parts, resolve_data, scan
from wdp_edge.data.listed import images_at, is_list
from wdp_edge.data.paths import PATHS
from wdp_edge.data.unlabelled import beside, is_pattern, is_unlabelled, matching, parted, repeated
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_bytes
from wdp_edge.protocols.task import Facts, Labels, facts_of

TRAIN_LIST, VAL_LIST = "wdp-edge-train.txt", "wdp-edge-val.txt"


@dataclass(frozen=True)
class Parts:
    """places: what the recipe names. facts: of the task, which is another than the one asked for where it cannot do
    without labels. said: what a user has to know. lists: texts of files to be written, by path.
    """

    train: ImageFolder
    val: ImageFolder
    places: tuple[Path, Path]
    facts: Facts
    said: list[str] = field(default_factory=list)
    lists: dict[Path, str] = field(default_factory=dict)

    @property
    def labelled(self) -> ImageFolder:
        """The training images, or those of validation where only these have labels."""
        return self.val if self.facts.named_classes and not self.train.classes else self.train

    def write_lists(self) -> None:
        for path, text in self.lists.items():
            write_bytes(path, text.encode("utf-8", "surrogateescape"))


def parts_of(data: Path, task: str, folder: Path) -> Parts:
    """data: a folder with both parts, or one place for all images without labels: a folder, a pattern such as
    photos/*.jpg, or a list. folder: the project, where lists of the two parts are written.

    Raises InputError for places that are no sound images, and where the task's metric needs labels that are not there.
    """
    facts = facts_of(task)
    if (images := _all_in_one(data, facts)) is not None:
        facts = _without_labels(facts, data)
        return _divided(images, data, facts, folder)
    other = f", or give --task {facts.without_labels} where folders are no classes" if facts.without_labels else ""
    places = resolve_data(data, facts.labels, other)
    said: list[str] = []
    if facts.labels in (Labels.ONE, Labels.MANY):
        bare = [is_unlabelled(place) for place in places]
        if all(bare):
            facts = _without_labels(facts, places[0])
            said = [_no_labels(facts)]
        elif bare[1] or (bare[0] and not facts.without_labels):
            raise _one_without(facts, places, bare)
        elif bare[0]:
            said = [_only_to_judge(places[0], facts)]
            return Parts(images_at(places[0], Labels.NONE), images_at(places[1], facts.labels), places, facts, said)
    train, val = (images_at(place, facts.labels) for place in places)
    if facts.labels is Labels.NONE and (again := repeated(train, val)):
        said.append(f"{len(again)} of the {len(val)} validation images are copies of training images: remove them.")
    return Parts(train, val, places, facts, said)


def _all_in_one(data: Path, facts: Facts) -> ImageFolder | None:
    """The images of one place that is to be divided; None where it holds two parts, or should."""
    if is_pattern(data):
        return matching(data)
    if data.is_file() and is_list(data, PATHS, *LISTS):
        if facts.labels is Labels.NONE or is_unlabelled(data):
            return images_at(data, Labels.NONE)
        raise InputError(
            f"{data} is one list of labelled images; two are needed, to train on and to judge by.",
            "Divide it into train.csv and val.csv, and name their folder with --data.",
        )
    if not data.is_dir() or holds_parts(data) or facts.labels is Labels.MASK:
        return None
    if facts.labels is Labels.NONE or is_unlabelled(data):
        return scan(data, Labels.NONE)
    images, folders = beside(data)
    if not folders:
        return scan(data, Labels.NONE)  # which says what lies there instead of images
    lists = [path for path in data.iterdir() if is_list(path, *LISTS)]
    if len(folders) == 1 and not images and not lists:
        raise InputError(
            f"{data} holds one folder, {folders[0]}: as a class it would be the only one.",
            f"If its images have no labels, name it: --data {data / folders[0]}. Classes need a folder each, in train/ "
            "and in val/.",
        )
    return None


def _without_labels(facts: Facts, place: Path) -> Facts:
    """The task for images without labels. Raises InputError where its metric needs them."""
    if facts.labels is Labels.NONE:
        return facts
    if not facts.without_labels:
        how = "class folders" if facts.labels is Labels.ONE else "lists with the columns path and label"
        raise InputError(
            f"{place} holds images without labels, and {facts.metric} of the task '{facts.name}' needs them.",
            f"Give {how}: train and val (or test), in one folder.",
        )
    return facts_of(facts.without_labels)


def _no_labels(facts: Facts) -> str:
    return (
        f"No labels: the task is {facts.name}. Training is by distillation alone, and every figure is agreement with "
        "the dense model. For accuracy give class folders, or lists with the columns path and label."
    )


def _only_to_judge(train: Path, facts: Facts) -> str:
    return (
        f"{train} has no labels: training is by distillation alone, and choices are made by agreement with the dense "
        f"model. The final figures are {facts.metric}, on the validation images."
    )


def _one_without(facts: Facts, places: tuple[Path, Path], bare: list[bool]) -> InputError:
    without, labelled = places if bare[0] else places[::-1]
    return InputError(
        f"{without} holds images without labels, {labelled} labelled ones.",
        "Label both" + (f", or do without any: --task {facts.without_labels}." if facts.without_labels else "."),
    )


def _divided(images: ImageFolder, data: Path, facts: Facts, folder: Path) -> Parts:
    """The two parts as lists beside wdp-edge.toml, for everybody to see and to change."""
    train, val, again = parted(images)
    places = folder / TRAIN_LIST, folder / VAL_LIST
    parts = [images.subset(indices) for indices in (train, val)]
    said = [_no_labels(facts)] if facts.of_answers else []
    below = sum("/" in path for path in images.paths) if data.is_dir() else 0
    if below:
        said.append(f"{below} of the {len(images)} images are in folders below {data}. To choose, give a pattern.")
    same = f" {again} that are copies of others are trained on." if again else ""
    said.append(
        f"{data} is divided by path, in runs of neighbours: {len(train)} images to train on ({TRAIN_LIST}), {len(val)} "
        f"to judge by ({VAL_LIST}).{same} Where nearly equal images, such as frames of one video, are in both, move "
        "them to one of the lists."
    )
    lists = {path: _text(part, data, folder) for path, part in zip(places, parts, strict=True)}
    return Parts(parts[0], parts[1], places, facts, said, lists)


def _text(part: ImageFolder, data: Path, folder: Path) -> str:
    """Paths start at the project, or are absolute where those of the data are."""
    apart = part.root.is_absolute() and not part.root.is_relative_to(folder.absolute())
    root = part.root.absolute() if data.is_absolute() or apart else Path(os.path.relpath(part.root, folder))
    lines = [f"# {len(part)} images of {str(data)!r}, which wdp-edge init divided; one path per line"]
    for path in part.paths:
        name = (root / path).as_posix()
        if any(letter in name for letter in "\r\n"):
            raise InputError(f"The name of {name!r} has a line break.", "Rename it.")
        lines.append(f"./{name}" if name[0] in "# \t" else name)
    return "\n".join([*lines, ""])
