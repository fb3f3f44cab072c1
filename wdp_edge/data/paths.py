"""Images that are named by paths alone, in a text file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.walk import is_image
from wdp_edge.errors import InputError
from wdp_edge.protocols.task import Labels

PATHS = ".txt"
_SHOWN = 300  # characters of a name


def read_paths(path: Path, labels: Labels = Labels.NONE) -> ImageFolder:
    """Images of a text file with one path a line; empty lines, and those that begin with #, are passed over.

    Paths are relative to the file's folder or absolute. They may lead anywhere: such a file does not come with a data
    set and is not looked for in one, but is written and named by whoever uses it.
    Raises InputError for a missing file, one that cannot say what `labels` asks for, and paths that are no images.
    """
    if not path.is_file():
        raise no_list(path)
    if labels is not Labels.NONE:
        raise InputError(
            f"{path} is a list of paths, which says nothing of labels.",
            "Give a .csv or .parquet file with the columns path and label.",
        )
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", "Check its permissions.") from error
    names = [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise InputError(f"{path} lists no images.", "Give one path per line.")
    if other := next((name for name in names if not is_image(name)), None):
        raise InputError(
            f"{path} lists '{other[:_SHOWN]}', which is not an image.",
            "Give one path per line, such as cat/1.jpg, and nothing else. Labels need a .csv file with the columns "
            "path and label.",
        )
    return of_paths(path, [os.path.join(path.parent, name) for name in names])  # noqa: PTH118 (text in, text out)


def of_paths(source: Path, found: Sequence[str]) -> ImageFolder:
    """Images without labels, from anywhere, in the order of their paths. source: what names them, for messages.

    Raises InputError for files that are named twice or do not exist.
    """
    whole = [os.path.abspath(name) for name in found]  # noqa: PTH100 (resolve() would follow links)
    home = os.path.abspath(source.parent)  # noqa: PTH100
    inside = all(name.startswith(os.path.join(home, "")) for name in whole)  # noqa: PTH118
    root = source.parent if inside else Path(os.path.commonpath([os.path.dirname(n) for n in whole]))  # noqa: PTH120
    start = home if inside else str(root)
    names = sorted(os.path.relpath(name, start).replace(os.sep, "/") for name in whole)
    check_files(source, names, root)
    return ImageFolder(root=root, classes=(), paths=tuple(names), labels=(0,) * len(names))


def no_list(path: Path) -> InputError:
    return InputError(f"The list of images {path} does not exist.", "Check the path, and train and val in [data].")


def check_files(path: Path, names: list[str], root: Path) -> None:
    """Raises InputError when a file is listed twice or missing. names: relative to root."""
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{path} lists '{name}' {times} times.", "Keep one of the rows.")
    if missing := sorted(name for name in names if not _is_file(root / name)):
        first = root / missing[0][:_SHOWN]
        raise InputError(
            f"{len(missing)} images of {path} do not exist or are not files; the first is {first}.",
            "Correct the paths, which are relative to the file's folder, or remove the rows.",
        )


def _is_file(path: Path) -> bool:
    """False also for a name that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises for names that are too long)
