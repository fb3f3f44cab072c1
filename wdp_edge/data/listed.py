"""Images by where they lie: named in a file, with their labels or without, or in pairs with their masks."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from wdp_edge.data.folder import LISTS, ImageFolder, scan
from wdp_edge.data.paths import PATHS, check_files, no_list, read_paths
from wdp_edge.data.walk import is_image
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import not_a_folder
from wdp_edge.protocols.task import Labels

COLUMNS = ("path", "label")
SEPARATOR = ";"
_MOST_CLASSES = 100_000
_WHOLE = re.compile(r"-?[0-9]{1,18}(\.0{1,6})?")
_OTHER_SEPARATORS = ("|", "\t", ",", "/", "&", "+", " ")
IMAGES, MASKS = "images", "masks"
_NAMED = 3
_LAYOUT = f"Put images into {IMAGES}/ and masks of the same names into {MASKS}/, such as {IMAGES}/1.jpg, {MASKS}/1.png."


def images_at(place: Path, labels: Labels = Labels.ONE) -> ImageFolder:
    """The images of a folder, of a CSV or Parquet file, or of a text file with paths alone.

    Raises InputError like `scan_pairs`, `read_paths`, `read_list` and `scan`.
    """
    if labels is Labels.MASK:
        return scan_pairs(place)
    if is_list(place, PATHS):
        return read_paths(place, labels)
    return read_list(place, labels) if is_list(place, *LISTS) else scan(place, labels)


def is_list(place: Path, *suffixes: str) -> bool:
    """Whether it is called like a file with one of these suffixes."""
    return place.suffix.lower() in suffixes and not place.is_dir()


def has_labels(path: Path) -> bool:
    """Whether some row of a CSV or Parquet file has a label. Raises InputError like `read_list`."""
    if not path.is_file():
        raise no_list(path)
    label = COLUMNS[1]
    if path.suffix.lower() != ".csv":
        return label in _parquet_header(path) and any(_parquet_columns(path, (label,))[0])
    with _opened(path) as reader:
        return label in (reader.fieldnames or ()) and any((row[label] or "").strip() for row in reader)


def read_list(path: Path, labels: Labels = Labels.ONE) -> ImageFolder:
    """Images of a file with the columns path and label; paths are relative to the file's folder.

    Whole numbers from 0 are the model's class numbers, and may leave out classes; other labels are classes in the order
    of their names. CSV may also be separated by tabs or, where labels hold none, by semicolons.
    labels: NONE reads none; with MANY a label holds any number of classes, separated by semicolons.
    Raises InputError for a missing or damaged file, for paths that are not images below the folder, and for labels that
    name no classes; SetupError when pyarrow is missing.
    """
    if not path.is_file():
        raise no_list(path)
    columns = COLUMNS[:1] if labels is Labels.NONE else COLUMNS
    names, *texts = _columns(path, columns)
    if not names:
        raise InputError(f"{path} lists no images.", f"Give one row per image: {','.join(columns)}.")
    known = _labelled(path, texts[0], labels) if texts else _Labelled((), [0] * len(names))
    found = [_inside(path, name) for name in names]
    check_files(path, found, path.parent)
    order = sorted(range(len(found)), key=lambda row: (known.labels[row], found[row]))
    return ImageFolder(
        root=path.parent,
        classes=known.classes,
        paths=tuple(found[row] for row in order),
        labels=tuple(known.labels[row] for row in order),
        several=tuple(known.several[row] for row in order) if known.several else (),
        numbered=known.numbered,
    )


def _columns(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """The texts of these columns."""
    return (_csv_columns if path.suffix.lower() == ".csv" else _parquet_columns)(path, columns)


@contextmanager
def _opened(path: Path) -> Iterator[csv.DictReader[str]]:
    """The rows of a CSV file, its columns' names without spaces around. Raises InputError where it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            delimiter = next((mark for mark in (",", "\t", ";") if mark in head), ",")
            reader = csv.DictReader(file, strict=True, delimiter=delimiter)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            yield reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.", "Save it as CSV in UTF-8.") from error


def _csv_columns(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    with _opened(path) as reader:
        _check_columns(path, reader.fieldnames, columns)
        rows = [[(row[name] or "").strip() for name in columns] for row in reader if _whole(path, row, reader)]
    rows = [row for row in rows if any(row)]
    return [[row[i] for row in rows] for i in range(len(columns))]


def _whole(path: Path, row: Mapping[Any, Any], reader: Any) -> bool:
    """True. Raises InputError for a row with more values than there are columns: a label with the separator in it."""
    if None in row:
        raise InputError(
            f"{path}, line {reader.line_num}: there are more values than columns ({len(reader.fieldnames)}).",
            'Put quotes around labels that hold the separator: images/1.jpg,"a,b".',
        )
    return True


def _parquet_header(path: Path) -> list[str]:
    """Names of all columns."""
    with _parquet(path) as parquet:
        names: list[str] = parquet.read_schema(path).names
        return names


def _parquet_columns(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    _check_columns(path, _parquet_header(path), columns)
    with _parquet(path) as parquet:
        table: Any = parquet.read_table(path, columns=list(columns))
    values = (table.column(name).to_pylist() for name in columns)
    return [[_text(value) for value in column] for column in values]


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """pyarrow.parquet. Raises SetupError where it is missing, InputError where the file cannot be read."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise SetupError(
            f"Reading {path.name} needs pyarrow, which is not installed.",
            "Install it with: pip install 'wdp-edge[parquet]', or give a CSV file.",
        ) from error
    try:
        yield parquet
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}.", "Write the file again.") from error


def _text(value: Any) -> str:
    """A value of a Parquet column as CSV would have it. Lists hold several labels."""
    if isinstance(value, list):
        return SEPARATOR.join(_text(part) for part in value)
    return "" if value is None else str(value).strip()


def _check_columns(path: Path, found: Any, columns: tuple[str, ...]) -> None:
    if missing := [name for name in columns if name not in found]:
        raise InputError(
            f"{path} has no column '{missing[0]}'; it has: {', '.join(map(str, found)) or 'none'}.",
            f"Name its columns {' and '.join(columns)}, in its first line.",
        )


def _inside(path: Path, name: str) -> str:
    """The image's path relative to the list's folder, with forward slashes.

    The text of a list cannot name what is elsewhere; a link in the folder is its owner's own and may lead anywhere.
    """
    root = os.path.abspath(path.parent)  # noqa: PTH100 (resolve() would follow links)
    inner = os.path.relpath(os.path.join(root, name), root).replace(os.sep, "/")  # noqa: PTH118 (text in, text out)
    if not name or inner.startswith("../") or inner == "..":
        raise InputError(
            f"{path} lists '{name}', which is not in {root}.",
            "Put the list in a folder that holds all its images.",
        )
    if not is_image(inner):
        raise InputError(f"{path} lists '{name}', which is not an image.", "List files such as cat/1.jpg.")
    return inner


@dataclass(frozen=True)
class _Labelled:
    """Names of the classes, and the class or classes of each row. numbered: labels are class numbers."""

    classes: tuple[str, ...]
    labels: list[int]
    several: list[tuple[int, ...]] = field(default_factory=list)
    numbered: bool = False


def _labelled(path: Path, texts: list[str], labels: Labels) -> _Labelled:
    return _several(path, texts) if labels is Labels.MANY else _single(path, texts)


def _single(path: Path, labels: list[str]) -> _Labelled:
    names = sorted(set(labels))
    if "" in names:
        more = f", and {labels.count('') - 1} more have none" if labels.count("") > 1 else ""
        raise InputError(
            f"Row {labels.index('') + 1} of {path} has no label{more}.",
            "Label every image, or none: a classifier can also be pruned by a list without the column label.",
        )
    if len(names) == 1:
        raise InputError(f"{path} holds only one class, '{names[0]}'.", "List images of every class.")
    if are_numbers(names):
        chosen = [_number(path, label) for label in labels]
        return _Labelled(tuple(map(str, range(max(chosen) + 1))), chosen, numbered=True)
    place = {name: number for number, name in enumerate(names)}
    return _Labelled(tuple(names), [place[label] for label in labels])


def are_numbers(names: Collection[str]) -> bool:
    """Whether these labels are class numbers rather than names.

    Also written as floats, as tables with gaps come out of pandas. Of one width, with leading zeros and none of them
    zero (001 to 010), they are names: as numbers they would leave out the first class.
    """
    if not names or not all(_WHOLE.fullmatch(name) for name in names):
        return False
    padded = any(name[0] == "0" and name.isdigit() and len(name) > 1 for name in names)
    return not padded or len({len(name) for name in names}) > 1 or any(not name.strip("0") for name in names)


def _number(path: Path, label: str) -> int:
    number = int(label.partition(".")[0])
    if not 0 <= number < _MOST_CLASSES:
        raise InputError(
            f"{path} names class {label}.",
            "Whole numbers are class numbers, from 0; put a letter before names that are made of digits.",
        )
    return number


def _several(path: Path, texts: list[str]) -> _Labelled:
    """Whole numbers may leave out classes that no row has."""
    check_separated(path, texts)
    sets = [{name for part in text.split(SEPARATOR) if (name := part.strip())} for text in texts]
    names = sorted(set().union(*sets))
    numbered = are_numbers(names)
    if numbered:
        rows = [tuple(sorted({_number(path, name) for name in row})) for row in sets]
        classes = tuple(map(str, range(max(max(row) for row in rows if row) + 1)))
    else:
        place = {name: number for number, name in enumerate(names)}
        rows, classes = [tuple(sorted(place[name] for name in row)) for row in sets], tuple(names)
    if len(classes) < 2:
        found = f"only one class, '{classes[0]}'" if classes else "no classes"
        raise InputError(
            f"{path} holds {found}.",
            f"List images of every class; names in a label are separated by {SEPARATOR}",
        )
    return _Labelled(classes, rarest(rows, len(classes)), rows, numbered)


def check_separated(path: Path, texts: Sequence[str]) -> None:
    """Raises InputError when labels hold no semicolon, but seem to separate their classes by something else.

    They do where a part of one label is also in another one, or is one itself; of spaces, which names have, every part
    of every label must be. A bar or a tab is hardly in a name.
    """
    labels = {text for text in texts if text}
    if any(SEPARATOR in label for label in labels):
        return
    for mark in _OTHER_SEPARATORS:
        combined = [label for label in labels if mark in label]
        uses = Counter(part.strip() for label in labels for part in set(label.split(mark)))
        shared = [all(uses[part.strip()] > 1 for part in label.split(mark)) for label in combined]
        seems = all(shared) and len(combined) < len(labels) if mark == " " else mark in "|\t" or any(shared)
        if combined and seems:
            raise InputError(
                f"No row of {path} has two classes: its labels hold no {SEPARATOR}, but '{sorted(combined)[0]}'.",
                f"Names in a label are separated by {SEPARATOR}; if this is a single name, write {SEPARATOR} after it.",
            )


def rarest(several: Sequence[tuple[int, ...]], classes: int) -> list[int]:
    """For each image its class with the fewest images, the first of equals; `classes` for images without any."""
    counts = Counter(c for row in several for c in row)
    return [min(row, key=lambda c: (counts[c], c), default=classes) for row in several]


def scan_pairs(root: Path) -> ImageFolder:
    """The images in and below root/images, each with the mask of the same name, without its suffix, in root/masks.

    Pixels are not looked at.
    Raises InputError when one of the folders is missing or empty, and when images and masks do not pair up.
    """
    if root.suffix.lower() in (".csv", ".parquet") and not root.is_dir():
        raise InputError(f"{root} is a list, which has no masks.", _LAYOUT)
    if not root.is_dir():
        raise not_a_folder(root, "Image folder", _LAYOUT)
    if missing := [name for name in (IMAGES, MASKS) if not (root / name).is_dir()]:
        raise InputError(f"{root} has no folder {missing[0]}/.", _LAYOUT)
    found = [scan(root / name, Labels.NONE) for name in (IMAGES, MASKS)]
    images, masks = (_by_name(folder) for folder in found)
    _check_pairs(root, images, masks)
    names = sorted(images)
    return ImageFolder(
        root=root,
        classes=(),
        paths=tuple(f"{IMAGES}/{images[name]}" for name in names),
        labels=(0,) * len(names),
        masks=tuple(f"{MASKS}/{masks[name]}" for name in names),
        left_out=tuple(sum((Counter(dict(folder.left_out)) for folder in found), Counter[str]()).most_common()),
    )


def _by_name(folder: ImageFolder) -> dict[str, str]:
    """Paths in the folder by their names without suffix. Raises InputError when two files have the same one."""
    names = [str(PurePosixPath(path).with_suffix("")) for path in folder.paths]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{folder.root} holds {times} files called '{name}'.", "Keep one of them.")
    return dict(zip(names, folder.paths, strict=True))


def _check_pairs(root: Path, images: Mapping[str, str], masks: Mapping[str, str]) -> None:
    alone, unused = sorted(images.keys() - masks.keys()), sorted(masks.keys() - images.keys())
    if alone or unused:
        parts = [f"{_counted(alone, 'image')} without a mask"] * bool(alone)
        parts += [f"{_counted(unused, 'mask')} without an image"] * bool(unused)
        raise InputError(
            f"{root} holds {' and '.join(parts)}.", f"Give every image {IMAGES}/NAME.jpg a mask {MASKS}/NAME.png."
        )


def _counted(names: Collection[str], what: str) -> str:
    listed = ", ".join(list(names)[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} {what}{'s' if len(names) > 1 else ''} ({listed})"
