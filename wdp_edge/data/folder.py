"""Images in folders: which there are, what they are called, and whether they fit the model."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wdp_edge.data.walk import KINDS, FoundImages, counted, find_images, is_image, is_passed_over, suffix_of
from wdp_edge.errors import InputError
from wdp_edge.io.files import not_a_folder
from wdp_edge.protocols.task import Facts, Labels

LISTS = (".csv", ".parquet")  # read by data/listed.py
VALIDATION_NAMES = ("val", "validation", "valid", "test")
_SAMPLED, _READ = 2000, 2**16
_NO_CLASSES = 'Folders that are no classes need task = "classify-unlabelled" in [model].'
_CLASSES = (
    ": the classes the checkpoint was trained on, with one folder for each of them in train and val. " + _NO_CLASSES
)
_BESIDE = "beside the class folders"
_LAYOUT = "Make one subfolder of images per class, for example train/cat/1.jpg."


@dataclass(frozen=True)
class ImageFolder:
    """Images; class c is `classes[c]`, in the order of their names. Unlabelled images have no classes.

    paths: relative to root, grouped by label and sorted. labels: class of each path; 0 without classes.
    several: all classes of each path, where an image may have any number; () elsewhere. Its label is then the rarest of
    them, or len(classes) for an image without any: what choices among the images are balanced by.
    masks: of each path the mask, relative to root, where masks say the class of every pixel; () elsewhere.
    left_out: how many files of the folder are not images, by suffix; empty for lists.
    numbered: labels are the model's class numbers, so that classes which no image has may be missing.
    """

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    several: tuple[tuple[int, ...], ...] = ()
    masks: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def by_class(self, indices: list[int] | None = None) -> list[list[int]]:
        """Per label the indices of its images, in order, or those of all without classes; only `indices` when given."""
        groups: list[list[int]] = [[] for _ in range(max(1, len(self.classes)) + bool(self.several))]
        for index in range(len(self)) if indices is None else indices:
            groups[self.labels[index]].append(index)
        return groups

    def present(self) -> set[int]:
        """Classes that some image has."""
        return {c for classes in self.several for c in classes} if self.several else set(self.labels)

    def subset(self, indices: Sequence[int]) -> ImageFolder:
        """These images alone."""
        return replace(
            self,
            paths=tuple(self.paths[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            several=tuple(self.several[i] for i in indices) if self.several else (),
            masks=tuple(self.masks[i] for i in indices) if self.masks else (),
        )

    def with_classes(self, classes: tuple[str, ...]) -> ImageFolder:
        """The same images, their classes found among these: by name, or by number where labels are numbers.

        Unchanged when some of its own are not among them. Masks take the classes as they are.
        """
        if self.masks:
            return replace(self, classes=classes)
        number = {name: index for index, name in enumerate(classes)}
        if self.numbered and len(self.classes) <= len(classes):
            place = list(range(len(self.classes)))
        elif set(self.classes) <= number.keys():
            place = [number[name] for name in self.classes]
        else:
            return self
        place.append(len(classes))
        labels = [place[c] for c in self.labels]
        if self.several:
            several = tuple(tuple(sorted(place[c] for c in own)) for own in self.several)
            return replace(self, classes=classes, labels=tuple(labels), several=several)
        order = sorted(range(len(self)), key=lambda i: labels[i])
        paths = tuple(self.paths[i] for i in order)
        return replace(self, classes=classes, paths=paths, labels=tuple(labels[i] for i in order))


def scan(root: Path, labels: Labels = Labels.ONE) -> ImageFolder:
    """Finds the images of every class folder in `root`, also in folders below it; hidden names, and what systems put
    beside data, are passed over.

    labels: NONE takes all images in and below `root`, whatever its folders are called.
    Raises InputError when the folder is missing or unreadable, holds no class folders, no images, an empty
    class or one class only, or when folders cannot hold such labels.
    """
    if not root.is_dir():
        options = {
            "--train": "Name folders of images with --train and --val.",
            "--val": "Name a folder of images with --val.",
        }
        raise not_a_folder(root, "Image folder", "Set train and val in [data] to folders of images.", options)
    if labels is Labels.MANY:
        raise InputError(
            f"{root} is a folder, which cannot say that an image shows several classes.",
            "Give a .csv or .parquet file with the columns path and label; label holds names separated by ;.",
        )
    if labels is Labels.NONE:
        return _scan_unlabelled(root)
    try:
        entries = [entry for entry in os.scandir(root) if not is_passed_over(entry.name)]
        found = {name: find_images(root, name) for name in sorted(e.name for e in entries if e.is_dir())}
        beside = Counter(f"{suffix_of(e.name)} {_BESIDE}".strip() for e in entries if e.is_file() and is_image(e.name))
    except OSError as error:
        raise _no_access(root, error) from error
    _check_found(root, found, beside)
    return ImageFolder(
        root=root,
        classes=tuple(found),
        paths=tuple(path for files in found.values() for path in files.images),
        labels=tuple(label for label, files in enumerate(found.values()) for _ in files.images),
        left_out=_most_first([beside, *(files.left_out for files in found.values())]),
    )


def _check_found(root: Path, found: dict[str, FoundImages], beside: Counter[str]) -> None:
    """Raises InputError like `scan`. found: of each class; beside: images beside the class folders."""
    for name in found:
        if any("\ud800" <= letter <= "\udfff" for letter in name):  # how Python writes bytes that are not UTF-8
            raise InputError(f"The name of class folder {root / name} is not UTF-8.", "Rename it.")
    if not found:
        raise InputError(f"{root} holds no class folders{f', but {counted(beside)}' if beside else ''}.", _LAYOUT)
    if not any(files.images for files in found.values()):
        others = sum((files.left_out for files in found.values()), beside)
        raise InputError(
            f"{root} holds no images ({KINDS}) in its class folders{f', but {counted(others)}' if others else ''}.",
            _LAYOUT,
        )
    if len(found) == 1:
        (name, files), further = *found.items(), f"Add a folder for every other class. {_NO_CLASSES}"
        if all(path.count("/") > 1 for path in files.images):
            further = f"If the classes are folders in {root / name}, name that one."
        raise InputError(f"{root} holds only one class, '{name}'.", further)
    if empty := [name for name, files in found.items() if not files.images]:
        others = sum((found[name].left_out for name in empty), Counter[str]())
        raise InputError(
            f"{_named(empty)} in {root} without images{f', but with {counted(others)}' if others else ''}.",
            "Put images into every class folder or remove the folder.",
        )


def _scan_unlabelled(root: Path) -> ImageFolder:
    try:
        found = find_images(root)
    except OSError as error:
        raise _no_access(root, error) from error
    if len(found.images) < 2:
        others = f", but {counted(found.left_out)}" if found.left_out else ""
        raise InputError(
            f"{root} holds {'one image' if found.images else 'no images'} ({KINDS}){others}.",
            "Name a folder with real images.",
        )
    paths, left_out = found.images, _most_first([found.left_out])
    return ImageFolder(root, (), paths, (0,) * len(paths), left_out=left_out)


def _most_first(counts: Iterable[Counter[str]]) -> tuple[tuple[str, int], ...]:
    return tuple(sum(counts, Counter[str]()).most_common())


def _no_access(root: Path, error: OSError) -> InputError:
    return InputError(f"{root} cannot be read: {error.strerror or error}.", "Check its permissions.")


def _named(names: list[str], most: int = 3) -> str:
    listed = ", ".join(f"'{n}'" for n in names[:most]) + (", …" if len(names) > most else "")
    return f"{len(names)} class folder{'s' if len(names) > 1 else ''} ({listed})"


def resolve_data(data: Path, labels: Labels = Labels.ONE, otherwise: str = "") -> tuple[Path, Path]:
    """Training and validation images inside `data`: folders, or lists such as train.csv; lists first for MANY labels.

    otherwise: what else can be done where they are called something else, as the end of a hint.
    Raises InputError when one of them is missing.
    """
    if not data.is_dir():
        raise not_a_folder(data, "Data folder", f"Name one that holds train/ and val/ with --data{otherwise}.")
    try:
        present = [entry.name for entry in data.iterdir()]
    except OSError as error:
        raise _no_access(data, error) from error
    training, validation = (_found(data, present, names, labels) for names in (("train",), VALIDATION_NAMES))
    if training is None or validation is None:
        raise InputError(
            f"{data} does not hold train/ and one of {', '.join(f'{n}/' for n in VALIDATION_NAMES)}, "
            "or lists such as train.csv and val.csv.",
            f"Rename what is called otherwise{otherwise}.",
        )
    return training, validation


def holds_parts(data: Path) -> bool:
    """Whether something in `data` is called as training or validation images are."""
    present = [entry.name for entry in data.iterdir()]
    return any(_found(data, present, names, Labels.ONE) for names in (("train",), VALIDATION_NAMES))


def _found(data: Path, present: Sequence[str], names: tuple[str, ...], labels: Labels) -> Path | None:
    """The first of these names, folder or list, in any case: Windows makes Train/ and VAL.CSV."""
    called: dict[str, str] = {}
    for name in sorted(present, key=lambda name: name != name.lower()):
        called.setdefault(name.lower(), name)
    folders = [data / called[n] for n in names if n in called and (data / called[n]).is_dir()]
    files = [data / called[n + s] for n in names for s in LISTS if n + s in called]
    lists = [file for file in files if file.is_file()]
    return next(iter(lists + folders if labels is Labels.MANY else folders + lists), None)


def fingerprint(folder: ImageFolder) -> str:
    """SHA-256 over class names, relative paths and file sizes: cheap, notices added, lost and resaved images.

    Of images with several classes each, over these as well.

    Raises InputError when an image has vanished since the scan.
    """
    digest = hashlib.sha256()
    for name in folder.classes:
        digest.update(os.fsencode(name) + b"\0")
    root = os.fspath(folder.root)
    for path in folder.paths + folder.masks:
        digest.update(os.fsencode(path) + b"\0%d\0" % _status(f"{root}/{path}").st_size)
    if folder.several:
        digest.update(repr(folder.several).encode())
    return digest.hexdigest()


def contents(folder: ImageFolder) -> str:
    """SHA-256 over the first and the last 64 KiB of images and masks, of 2,000 at most, spread evenly.

    Notices what sizes do not show: images that were rewritten without compression, or changed in place.
    """
    digest = hashlib.sha256()
    paths = folder.paths + folder.masks
    for path in paths[:: -(-len(paths) // _SAMPLED) or 1]:
        with (folder.root / path).open("rb") as file:
            digest.update(file.read(_READ))
            file.seek(max(file.tell(), os.fstat(file.fileno()).st_size - _READ))
            digest.update(file.read(_READ))
    return digest.hexdigest()


def check_classes(train: ImageFolder, val: ImageFolder, num_classes: int) -> None:
    """Raises InputError unless both folders hold the same classes, as many as the model has."""
    for folder in (train, val):
        if folder.numbered and len(folder.classes) > num_classes:
            raise _beyond(folder, num_classes)
    if train.classes != val.classes:
        missing = sorted(set(train.classes) - set(val.classes))
        extra = sorted(set(val.classes) - set(train.classes))
        parts = [f"lacks {_named(missing)}"] * bool(missing) + [f"adds {_named(extra)}"] * bool(extra)
        raise InputError(
            f"The validation folder {val.root} {' and '.join(parts)} compared with {train.root}.",
            "Give both the same class folders.",
        )
    if len(train.classes) != num_classes:
        raise InputError(
            f"{train.root} holds {len(train.classes)} classes, the model has {num_classes}.",
            f"Set num_classes in [model]{_CLASSES}",
            {"--num-classes": f"Set num_classes in [model] or give --num-classes{_CLASSES}"},
        )


def check_apart(train: ImageFolder, val: ImageFolder) -> None:
    """Raises InputError when validation images are training images, also through links of either kind."""
    places = dict(zip(_places(val), val.paths, strict=True))
    shared = {places[place]: path for place, path in zip(_places(train), train.paths, strict=True) if place in places}
    if not shared:
        return
    every = len(shared) == len(val)
    of_val, of_train = next(iter(shared.items()))
    raise InputError(
        f"{'All' if every else f'{len(shared)} of the'} {len(val)} validation images in {val.root} are also training "
        f"images, so their figures would say nothing about new ones: {of_val} is the same file as "
        f"{train.root / of_train}.",
        "Name other images as val in [data].",
        {"--val": "Name other images with --val, or as val in [data]."},
    )


def _places(folder: ImageFolder) -> Iterator[tuple[int, int, int]]:
    """Where the bytes of every image are, whatever links lead there: device, number and size.

    The size is for file systems whose numbers are not unique. Raises InputError when an image cannot be read.
    """
    root = os.fspath(folder.root)
    for path in folder.paths:
        status = _status(f"{root}/{path}")
        yield status.st_dev, status.st_ino, status.st_size


def _status(path: str) -> os.stat_result:
    """Raises InputError when an image has vanished since the scan, or is a link that leads nowhere."""
    try:
        return os.stat(path)  # noqa: PTH116 (a Path per image takes five times as long)
    except OSError as error:
        raise InputError(f"{path} can no longer be read.", "Restore the file and try again.") from error


def _beyond(folder: ImageFolder, num_classes: int) -> InputError:
    """For labels that are numbers above the model's."""
    last = len(folder.classes) - 1
    from_one = 0 not in folder.present() and last == num_classes
    return InputError(
        f"A list in {folder.root} has images of class {last}; the model's {num_classes} classes are 0 to "
        f"{num_classes - 1}.",
        "Its numbers start at 1: subtract 1 from each label."
        if from_one
        else "Set num_classes in [model] to the classes the checkpoint was trained on, or correct the "
        "labels: whole numbers are class numbers, from 0.",
    )


def check_counted(folder: ImageFolder, facts: Facts, what: str = "images") -> None:
    """Raises InputError when the task's metric counts none of the images, by their labels; see `task.defined`."""
    if facts.of_pairs and len(set(folder.labels)) == len(folder):
        raise InputError(
            f"{facts.metric} is not defined on the {len(folder)} {what} of {folder.root}: none shares its "
            "class with another.",
            "Add images, so that classes have several.",
        )
    if facts.labels is Labels.MANY and not any(folder.several):
        raise InputError(
            f"{facts.metric} is not defined on the {len(folder)} {what} of {folder.root}: none has a label.",
            "Label some images.",
        )
