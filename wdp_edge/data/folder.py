"""Images in folders: which there are, what they are called, and whether they fit the model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wdp_edge.errors import InputError
from wdp_edge.task import Labels

_JPEG, _NETPBM = (".jpg", ".jpeg", ".jpe", ".jfif"), (".pbm", ".pgm", ".pnm", ".ppm")
SUFFIXES = frozenset((*_JPEG, *_NETPBM, ".avif", ".bmp", ".gif", ".jp2", ".png", ".tga", ".tif", ".tiff", ".webp"))
LISTS = (".csv", ".parquet")  # read by data/listed.py
VALIDATION_NAMES = ("val", "validation", "valid", "test")
_KINDS = ", ".join(sorted(s[1:] for s in SUFFIXES))
_LAYOUT = "Make one subfolder of images per class, for example train/cat/1.jpg."


@dataclass(frozen=True)
class ImageFolder:
    """Images; class c is `classes[c]`, in the order of their names. Unlabelled images have no classes.

    paths: relative to root, grouped by label and sorted. labels: class of each path; 0 without classes.
    several: all classes of each path, where an image may have any number; () elsewhere. Its label is then the rarest of
    them, or len(classes) for an image without any: what choices among the images are balanced by.
    masks: of each path the mask, relative to root, where masks say the class of every pixel; () elsewhere.
    """

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    several: tuple[tuple[int, ...], ...] = ()
    masks: tuple[str, ...] = ()

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
        """The same images, their several classes or masks among these; unchanged when some of its own are not."""
        if self.masks:
            return replace(self, classes=classes)
        if not self.several or not set(self.classes) <= set(classes):
            return self
        place = [classes.index(name) for name in self.classes] + [len(classes)]
        several = tuple(tuple(sorted(place[c] for c in own)) for own in self.several)
        return replace(self, classes=classes, labels=tuple(place[c] for c in self.labels), several=several)


def scan(root: Path, labels: Labels = Labels.ONE) -> ImageFolder:
    """Finds the images of every class folder in `root`, also in folders below it; hidden names are ignored.

    labels: NONE takes all images in and below `root`, whatever its folders are called.
    Raises InputError when the folder is missing or unreadable, holds no class folders, no images, an empty
    class or one class only, or when folders cannot hold such labels.
    """
    if not root.is_dir():
        raise InputError(f"Image folder {root} does not exist.", "Check [data] or --data, --train and --val.")
    if labels is Labels.MANY:
        raise InputError(
            f"{root} is a folder, which cannot say that an image shows several classes.",
            "Give a .csv or .parquet file with the columns path and label; label holds names separated by ;.",
        )
    if labels is Labels.NONE:
        return _scan_unlabelled(root)
    try:
        classes = sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
        found = {name: sorted(_images(root, name)) for name in classes}
    except OSError as error:
        raise _no_access(root, error) from error
    if not classes:
        raise InputError(f"{root} holds no class folders.", _LAYOUT)
    if not any(found.values()):
        raise InputError(
            f"{root} holds no images ({_KINDS}) in its class folders.",
            _LAYOUT,
        )
    if len(classes) == 1:
        raise InputError(f"{root} holds one class only, '{classes[0]}'.", "Add a folder for every other class.")
    if empty := [name for name in classes if not found[name]]:
        raise InputError(
            f"{_named(empty)} in {root} without images.",
            "Put images into every class folder or remove the folder.",
        )
    return ImageFolder(
        root=root,
        classes=tuple(classes),
        paths=tuple(path for name in classes for path in found[name]),
        labels=tuple(label for label, name in enumerate(classes) for _ in found[name]),
    )


def _scan_unlabelled(root: Path) -> ImageFolder:
    try:
        paths = tuple(sorted(_images(root, "")))
    except OSError as error:
        raise _no_access(root, error) from error
    if len(paths) < 2:
        raise InputError(
            f"{root} holds {'one image' if paths else 'no images'} ({_KINDS}).", "Name a folder with real images."
        )
    return ImageFolder(root, (), paths, (0,) * len(paths))


def _no_access(root: Path, error: OSError) -> InputError:
    return InputError(f"{root} cannot be read: {error.strerror or error}.", "Check its permissions.")


def _images(root: Path, name: str) -> Iterator[str]:
    """Relative paths of the images under root/name. A folder reached twice through links is read once."""
    seen: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise error

    for folder, subfolders, files in os.walk(root / name, followlinks=True, onerror=fail):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        inside = Path(folder).relative_to(root).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for file in files:
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:  # noqa: PTH122 (hot)
                yield f"{prefix}{file}"


def _named(names: list[str], most: int = 3) -> str:
    listed = ", ".join(f"'{n}'" for n in names[:most]) + (", …" if len(names) > most else "")
    return f"{len(names)} class folder{'s' if len(names) > 1 else ''} ({listed})"


def resolve_data(data: Path, labels: Labels = Labels.ONE) -> tuple[Path, Path]:
    """Training and validation images inside `data`: folders, or lists such as train.csv; lists first for MANY labels.

    Raises InputError when one of them is missing.
    """
    if not data.is_dir():
        raise InputError(f"Data folder {data} does not exist.", "Check --data or [data].")
    training, validation = (_found(data, names, labels) for names in (("train",), VALIDATION_NAMES))
    if training is None or validation is None:
        raise InputError(
            f"{data} does not hold train/ and one of {', '.join(f'{n}/' for n in VALIDATION_NAMES)}, "
            "or lists such as train.csv and val.csv.",
            "Rename them, or name the two with --train and --val.",
        )
    return training, validation


def _found(data: Path, names: tuple[str, ...], labels: Labels) -> Path | None:
    folders = [data / name for name in names if (data / name).is_dir()]
    lists = [data / (name + suffix) for name in names for suffix in LISTS if (data / (name + suffix)).is_file()]
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
        try:
            size = os.stat(f"{root}/{path}").st_size  # noqa: PTH116 (a Path per image takes five times as long)
        except OSError as error:
            raise InputError(f"{root}/{path} cannot be read any more.", "Restore the file and try again.") from error
        digest.update(os.fsencode(path) + b"\0%d\0" % size)
    if folder.several:
        digest.update(repr(folder.several).encode())
    return digest.hexdigest()


def check_classes(train: ImageFolder, val: ImageFolder, num_classes: int) -> None:
    """Raises InputError unless both folders hold the same classes, as many as the model has."""
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
            "Set num_classes in [model] (--num-classes) to the classes the checkpoint was trained on, "
            "and give one folder for each of them in train and val ([data], --data).",
        )
