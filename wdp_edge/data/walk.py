"""Files below a folder: which are images, and how many others are left out."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wdp_edge.errors import InputError

_JPEG, _NETPBM = (".jpg", ".jpeg", ".jpe", ".jfif"), (".pbm", ".pgm", ".pnm", ".ppm")
SUFFIXES = frozenset((*_JPEG, *_NETPBM, ".avif", ".bmp", ".gif", ".jp2", ".png", ".tga", ".tif", ".tiff", ".webp"))
KINDS = ", ".join(sorted(s[1:] for s in SUFFIXES))

# What systems put beside data, in lower case: thumbnails and bins of Synology and QNAP, what macOS puts into archives,
# lost files and bins of Linux and Windows. Hidden names need no list.
_OF_SYSTEMS = frozenset(
    {
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@tmp",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "ehthumbs.db",
        "found.000",
        "icon\r",
        "lost+found",
        "recycler",
        "system volume information",
        "thumbs.db",
    }
)
_MOST_SUFFIXES = 5


@dataclass(frozen=True)
class FoundImages:
    """images: paths relative to the root, sorted. left_out: how many other files there are, by suffix."""

    images: tuple[str, ...]
    left_out: Counter[str]


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is not data: hidden, or made by a system."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def is_image(name: str) -> bool:
    """By its suffix."""
    return suffix_of(name) in SUFFIXES


def suffix_of(name: str) -> str:
    """In lower case, with its dot; "" where there is none."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (hot)


def find_images(root: Path, name: str = "") -> FoundImages:
    """The files in and below root/name that are not passed over.

    Raises OSError for a folder that cannot be read, InputError for what is called like an image but is not a file.
    """
    images, left_out = [], Counter[str]()
    for path in _files(root, name):
        if is_image(path):
            images.append(path)
        else:
            left_out[suffix_of(path)] += 1
    return FoundImages(tuple(sorted(images)), left_out)


def _files(root: Path, name: str) -> Iterator[str]:
    """Their paths relative to the root. A folder reached twice through links is read once."""
    seen: set[tuple[int, int]] = set()
    waiting = [name]
    while waiting:
        inside = waiting.pop()
        status = (root / inside).stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(root / inside) as listed:
            entries = sorted((e for e in listed if not is_passed_over(e.name)), key=lambda e: e.name, reverse=True)
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if _holds(entry.is_dir):
                waiting.append(path)
                continue
            if is_image(path) and not _holds(entry.is_file):
                _check_file(root / path)
            yield path


def _holds(question: Callable[[], bool]) -> bool:
    """False also for a link that leads nowhere."""
    try:
        return question()
    except OSError:
        return False


def _check_file(path: Path) -> None:
    """Raises InputError for what would block instead of being read. A link to nowhere is reported when it is read."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    what = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise InputError(f"{path} is {what}, not an image file.", "Remove it.")


def counted(left_out: Counter[str]) -> str:
    """Such as "15 files (12 .heic, 2 .txt, 1 without a suffix)"."""
    total = left_out.total()
    parts = [f"{count} {suffix or 'without a suffix'}" for suffix, count in left_out.most_common(_MOST_SUFFIXES)]
    more = ["…"] * (len(left_out) > _MOST_SUFFIXES)
    return f"{total} file{'s' if total > 1 else ''} ({', '.join(parts + more)})"
