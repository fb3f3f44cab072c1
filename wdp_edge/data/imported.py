"""Datasets of `timm.data` (torchvision, Hugging Face, WebDataset, TensorFlow) as images on disk and lists of them.

They come once and stay: everything else here reads files, which any number of processes can do in any order.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from wdp_edge import progress
from wdp_edge.data.listed import COLUMNS, are_numbers
from wdp_edge.data.worker import UNREADABLE, to_rgb
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import disk_error, write_text

KINDS = ("torch", "hfds", "hfids", "wds", "tfds")
_SUFFIXES = {
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
    "JPEG": ".jpg",
    "JPEG2000": ".jp2",
    "MPO": ".jpg",
    "PNG": ".png",
    "PPM": ".ppm",
    "TIFF": ".tif",
    "WEBP": ".webp",
}
_PNG_MODES = ("1", "I;16", "L", "LA", "P", "RGB", "RGBA")
_PARTS = "images"
# What timm, torchvision and datasets raise for names, splits and files that are not there.
_REFUSALS = (AssertionError, RuntimeError, ValueError, LookupError, OSError, TypeError)


@dataclass(frozen=True)
class Imported:
    """A split on disk. list: the CSV file with its images; classes: names, or none where the dataset has none."""

    list: Path
    images: int
    classes: tuple[str, ...]


def import_split(name: str, split: str, out: Path, data: Path | None = None, download: bool = False) -> Imported:
    """Writes out/SPLIT.csv and its images below out/images/SPLIT.

    name: as `timm.data.create_dataset` takes it, such as torch/cifar10 or hfds/user/name. data: where the dataset is,
    or goes. Encoded images are copied byte for byte where the dataset has them, others are saved as PNG. Labels in the
    list are the dataset's class numbers, or their names where these are read back as the same numbers: in alphabetical
    order, and not numbers themselves. A model's classes keep their numbers.
    Raises InputError for a dataset, split or label that cannot be had, SetupError for a missing package.
    """
    folder = _plain(split)
    place, rows = out / f"{folder}.csv", list[tuple[str, int]]()
    if place.exists():
        raise InputError(f"{place} exists.", "Remove it, or name another folder with --out.")
    dataset = open_split(name, split, data, download)
    with progress.task(f"import {name}, {split}", _length(dataset)) as advance:
        for number, (image, label) in enumerate(samples(name, dataset)):
            content, suffix = encoded(image)
            path = f"{_PARTS}/{folder}/{number:07d}{suffix}"
            _write(out / path, content)
            rows.append((path, class_number(label, name)))
            advance(1)
    _check_count(name, split, dataset, len(rows))
    classes = class_names(dataset)
    named = bool(classes) and read_back_alike(classes, {label for _, label in rows})
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows((path, classes[label] if named else label) for path, label in rows)
    write_text(place, text.getvalue())
    return Imported(place, len(rows), classes)


def open_split(name: str, split: str, data: Path | None, download: bool) -> Any:
    """The dataset. Raises InputError and SetupError as `import_split` does."""
    kind = name.partition("/")[0].lower()
    if kind not in KINDS:
        raise InputError(
            f"'{name}' is not a timm dataset.", f"Write {', '.join(f'{k}/NAME' for k in KINDS)}; see timm.data."
        )
    from timm.data import ImageDataset, create_dataset

    root = None if data is None else str(data)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            dataset = create_dataset(name, root=root, split=split, download=download)
    except ImportError as error:
        package = "wdp-edge[datasets]" if kind in ("hfds", "hfids", "wds") else error.name
        raise SetupError(
            f"{name} needs {error.name or 'a package'}, which is not installed.",
            f"Install it with: pip install '{package}'",
        ) from error
    except _REFUSALS as error:
        raise _refused(name, split, error) from error
    if isinstance(dataset, ImageDataset):
        dataset.load_bytes = True  # files as they are; `create_dataset` passes this on for folders only
    return dataset


def samples(name: str, dataset: Any) -> Iterator[tuple[Any, Any]]:
    """Images, as bytes or decoded, and labels, in the dataset's order."""
    from torch.utils.data import IterableDataset

    one_by_one = isinstance(dataset, IterableDataset)
    try:
        yield from dataset if one_by_one else (dataset[i] for i in range(len(dataset)))
    except _REFUSALS as error:
        raise InputError(f"{name} cannot be read: {_said(error)}.", "Check the files of the dataset.") from error


def encoded(image: Any) -> tuple[bytes, str]:
    """The content of an image file and its suffix. image: such content, or a Pillow image."""
    if isinstance(image, bytes):
        try:
            with Image.open(io.BytesIO(image)) as opened:
                suffix = _SUFFIXES.get(opened.format or "")
                return (image, suffix) if suffix else encoded(to_rgb(opened))
        except UNREADABLE as error:
            raise InputError(f"An image cannot be read: {error}.", "Check the files of the dataset.") from error
    file = io.BytesIO()
    try:
        (image if image.mode in _PNG_MODES else to_rgb(image)).save(file, "PNG")
    except ValueError as error:
        raise InputError(f"An image cannot be saved: {error}.", "Write files of 8 or 16 bits yourself.") from error
    return file.getvalue(), ".png"


def class_number(label: Any, name: str) -> int:
    """Raises InputError for anything but the number of one class."""
    try:
        number = int(label)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} has labels like {str(label)[:60]}, not class numbers.",
            "Write a list of images and labels yourself.",
        ) from error
    if number < 0:
        raise InputError(f"{name} has images without a label.", "Name a split with labels.")
    return number


def class_names(dataset: Any) -> tuple[str, ...]:
    """In the order of their numbers; none where the dataset knows none for every number."""
    found = getattr(getattr(dataset, "reader", dataset), "class_to_idx", None) or {}
    names = sorted(found, key=lambda name: found[name])
    complete = [found[name] for name in names] == list(range(len(names)))
    return tuple(map(str, names)) if complete else ()


def read_back_alike(classes: Sequence[str], labels: Collection[int]) -> bool:
    """Whether a list with these names in place of the class numbers `labels` gives the same numbers again.

    Not where a name is missing from the list, is a number or is changed by reading, nor in another order.
    """
    names = list(classes)
    plain = all(name and name == name.strip() and name.isprintable() for name in names)
    return plain and names == sorted(names) and set(labels) == set(range(len(names))) and not are_numbers(names)


def _write(path: Path, content: bytes) -> None:
    """Not as one step, which takes long for many files: the list, which comes last, says that all are there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise disk_error(error, path) from error


def _check_count(name: str, split: str, dataset: Any, count: int) -> None:
    """Raises InputError for no images, and when timm has skipped some, as it does with broken ones."""
    expected = _length(dataset)
    if count == 0 or count < expected:
        raise InputError(
            f"{name} gave {count} images of split {split}, not {expected or 'any'}.",
            "Some cannot be read: check the files of the dataset.",
        )


def _length(dataset: Any) -> int:
    """0 when it does not say."""
    try:
        return len(dataset)
    except TypeError:
        return 0


def _plain(split: str) -> str:
    """The split's name for files."""
    if not re.fullmatch(r"[\w.-]+", split) or split.startswith("."):
        raise InputError(f"'{split}' cannot be the name of a list.", "Name a plain split, such as train.")
    return split


def _refused(name: str, split: str, error: Exception) -> InputError:
    return InputError(
        f"timm cannot open split {split} of {name}: {_said(error)}.",
        "Check the name, the split, and that --data is where the dataset is; --download fetches it where timm can.",
    )


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
