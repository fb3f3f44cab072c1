"""Images named in a CSV or Parquet file, with their labels."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wdp_edge.data.folder import LISTS, ImageFolder, scan
from wdp_edge.data.pairs import scan_pairs
from wdp_edge.data.walk import is_image
from wdp_edge.errors import InputError, SetupError
from wdp_edge.task import Labels

COLUMNS = ("path", "label")
SEPARATOR = ";"
_MOST_CLASSES = 100_000


def images_at(place: Path, labels: Labels = Labels.ONE) -> ImageFolder:
    """The images of a folder, or of a CSV or Parquet file.

    Raises InputError like `scan_pairs`, `read_list` and `scan`.
    """
    if labels is Labels.MASK:
        return scan_pairs(place)
    is_list = place.suffix.lower() in LISTS and not place.is_dir()
    return read_list(place, labels) if is_list else scan(place, labels)


def read_list(path: Path, labels: Labels = Labels.ONE) -> ImageFolder:
    """Images of a file with the columns path and label; paths are relative to the file's folder.

    Whole numbers from 0 are the model's class indices; other labels are classes in the order of their names.
    labels: NONE reads none; with MANY a label holds any number of classes, separated by semicolons.
    Raises InputError for a missing or damaged file, for paths that are no images below the folder, and for labels that
    name no classes; SetupError when pyarrow is missing.
    """
    if not path.is_file():
        raise InputError(f"The list of images {path} does not exist.", "Check the path, and train and val in [data].")
    columns = COLUMNS[:1] if labels is Labels.NONE else COLUMNS
    read = _csv_columns if path.suffix.lower() == ".csv" else _parquet_columns
    names, *texts = read(path, columns)
    if not names:
        raise InputError(f"{path} lists no images.", f"Give one row per image: {','.join(columns)}.")
    several: list[tuple[int, ...]] = []
    if labels is Labels.MANY:
        classes, several = _several(path, texts[0])
        numbers = rarest(several, len(classes))
    else:
        classes, numbers = _classes(path, texts[0]) if texts else ((), [0] * len(names))
    found = [_inside(path, name) for name in names]
    _check_files(path, found)
    order = sorted(range(len(found)), key=lambda row: (numbers[row], found[row]))
    return ImageFolder(
        root=path.parent,
        classes=classes,
        paths=tuple(found[row] for row in order),
        labels=tuple(numbers[row] for row in order),
        several=tuple(several[row] for row in order) if several else (),
    )


def _check_files(path: Path, names: list[str]) -> None:
    """Raises InputError when a file is listed twice or missing."""
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path} lists '{name}' {times} times.", "Keep one of the rows.")
    if missing := sorted(name for name in names if not (path.parent / name).is_file()):
        raise InputError(
            f"{len(missing)} images of {path} do not exist, the first is {path.parent / missing[0]}.",
            "Correct the paths, which are relative to the file's folder, or remove the rows.",
        )


def _csv_columns(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or (), columns)
            rows = [[(row[name] or "").strip() for name in columns] for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.", "Save it as CSV in UTF-8.") from error
    rows = [row for row in rows if any(row)]
    return [[row[i] for row in rows] for i in range(len(columns))]


def _parquet_columns(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise SetupError(
            f"Reading {path.name} needs pyarrow, which is not installed.",
            "Install it with: pip install 'wdp-edge[parquet]', or give a CSV file.",
        ) from error
    try:
        _check_columns(path, parquet.read_schema(path).names, columns)
        table: Any = parquet.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}.", "Write the file again.") from error
    values = (table.column(name).to_pylist() for name in columns)
    return [["" if value is None else str(value) for value in column] for column in values]


def _check_columns(path: Path, found: Any, columns: tuple[str, ...]) -> None:
    if missing := [name for name in columns if name not in found]:
        raise InputError(
            f"{path} has no column '{missing[0]}'; it has: {', '.join(map(str, found)) or 'none'}.",
            f"Name its columns {' and '.join(columns)}, in its first line.",
        )


def _inside(path: Path, name: str) -> str:
    """The image's path relative to the list's folder, with forward slashes."""
    root = os.path.abspath(path.parent)  # noqa: PTH100 (resolve() would follow links)
    inner = os.path.relpath(os.path.join(root, name), root).replace(os.sep, "/")  # noqa: PTH118 (text in, text out)
    if not name or inner.startswith("../") or inner == "..":
        raise InputError(f"{path} lists '{name}', which is not in {root}.", "Put the list above all its images.")
    if not is_image(inner):
        raise InputError(f"{path} lists '{name}', which is no image.", "List files such as cat/1.jpg.")
    return inner


def _classes(path: Path, labels: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes, and each row's class."""
    names = sorted(set(labels))
    if "" in names:
        raise InputError(f"Row {labels.index('') + 1} of {path} has no label.", "Label every image.")
    if _are_indices(names):
        numbers = sorted({int(n) for n in names})
        gap = next((expected for expected, number in enumerate(numbers) if number != expected), None)
        if gap is not None:
            raise InputError(
                f"{path} has no images of class {gap}, but of class {numbers[-1]}.",
                "Whole numbers are class indices, from 0 and without gaps. Other labels are put in alphabetical order.",
            )
        classes, chosen = tuple(map(str, numbers)), [int(label) for label in labels]
    else:
        place = {name: number for number, name in enumerate(names)}
        classes, chosen = tuple(names), [place[label] for label in labels]
    if len(classes) == 1:
        raise InputError(f"{path} holds one class only, '{classes[0]}'.", "List images of every class.")
    return classes, chosen


def _are_indices(names: list[str]) -> bool:
    return all(name.isascii() and name.isdigit() for name in names)


def _several(path: Path, texts: list[str]) -> tuple[tuple[str, ...], list[tuple[int, ...]]]:
    """Names of the classes, and each row's classes, ascending. Whole numbers may leave out classes that no row has."""
    sets = [{name for part in text.split(SEPARATOR) if (name := part.strip())} for text in texts]
    names = sorted(set().union(*sets))
    if _are_indices(names):
        rows = [tuple(sorted(int(name) for name in row)) for row in sets]
        last = max((max(row) for row in rows if row), default=-1)
        if last >= _MOST_CLASSES:
            raise InputError(f"{path} names class {last}.", "Whole numbers are class indices, from 0.")
        classes = tuple(map(str, range(last + 1)))
    else:
        place = {name: number for number, name in enumerate(names)}
        rows, classes = [tuple(sorted(place[name] for name in row)) for row in sets], tuple(names)
    if len(classes) < 2:
        found = f"one class only, '{classes[0]}'" if classes else "no classes"
        raise InputError(
            f"{path} holds {found}.",
            f"List images of every class; names in a label are separated by {SEPARATOR}",
        )
    return classes, rows


def rarest(several: Sequence[tuple[int, ...]], classes: int) -> list[int]:
    """Of each image the class that the fewest images have, the first of equals; `classes` for images without any."""
    counts = Counter(c for row in several for c in row)
    return [min(row, key=lambda c: (counts[c], c), default=classes) for row in several]
