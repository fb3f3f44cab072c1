"""Images named in a CSV or Parquet file, with their labels."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

from wdp_edge.data.folder import LISTS, SUFFIXES, ImageFolder, scan
from wdp_edge.errors import InputError, SetupError

COLUMNS = ("path", "label")


def images_at(place: Path, labelled: bool = True) -> ImageFolder:
    """The images of a folder, or of a CSV or Parquet file. Raises InputError like `scan` and `read_list`."""
    return read_list(place, labelled) if place.suffix.lower() in LISTS else scan(place, labelled)


def read_list(path: Path, labelled: bool = True) -> ImageFolder:
    """Images of a file with the columns path and label; paths are relative to the file's folder.

    Whole numbers from 0 are the model's class indices; other labels are classes in the order of their names.
    labelled: False reads no labels.
    Raises InputError for a missing or damaged file, for paths that are no images below the folder, and for labels that
    name no classes; SetupError when pyarrow is missing.
    """
    if not path.is_file():
        raise InputError(f"The list of images {path} does not exist.", "Check [data] or --data, --train and --val.")
    columns = COLUMNS if labelled else COLUMNS[:1]
    read = _csv_columns if path.suffix.lower() == ".csv" else _parquet_columns
    names, *labels = read(path, columns)
    if not names:
        raise InputError(f"{path} lists no images.", f"Give one row per image: {','.join(columns)}.")
    root = path.parent
    classes, numbers = _classes(path, labels[0]) if labels else ((), [0] * len(names))
    found = sorted(zip(numbers, (_inside(path, name) for name in names), strict=True))
    name, times = Counter(name for _, name in found).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path} lists '{name}' {times} times.", "Keep one of the rows.")
    if missing := [name for _, name in found if not (root / name).is_file()]:
        raise InputError(
            f"{len(missing)} images of {path} do not exist, the first is {root / missing[0]}.",
            "Correct the paths, which are relative to the file's folder, or remove the rows.",
        )
    return ImageFolder(root, classes, tuple(name for _, name in found), tuple(number for number, _ in found))


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
    if os.path.splitext(inner)[1].lower() not in SUFFIXES:  # noqa: PTH122
        raise InputError(f"{path} lists '{name}', which is no image.", "List files such as cat/1.jpg.")
    return inner


def _classes(path: Path, labels: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes, and each row's class."""
    names = sorted(set(labels))
    if "" in names:
        raise InputError(f"Row {labels.index('') + 1} of {path} has no label.", "Label every image.")
    if all(n.isascii() and n.isdigit() for n in names):
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
