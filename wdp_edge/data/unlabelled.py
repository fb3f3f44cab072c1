"""Images that nothing gives a class: where they lie, and how those of one place are parted for training and judging."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wdp_edge.data.folder import LISTS, ImageFolder
from wdp_edge.data.listed import has_labels, is_list
from wdp_edge.data.paths import PATHS, of_paths
from wdp_edge.data.walk import find_images, is_image, is_passed_over
from wdp_edge.errors import InputError

FEWEST = 20
_SHARE, _RUNS, _MOST = 5, 10, 5000
_READ = 2**14  # bytes from each end of a file


def is_unlabelled(place: Path) -> bool:
    """Whether nothing at this place says what its images show.

    A list of paths, or one without labels; a folder with images right in it, unless the folders beside them are several
    and hold more: then these are classes. Raises InputError for a list that cannot be read.
    """
    if is_list(place, PATHS):
        return True
    if is_list(place, *LISTS):
        return not has_labels(place)
    if not place.is_dir():
        return False
    images, folders = beside(place)
    if len(folders) < 2 or not images:
        return images > 0
    with _readable(place):
        return images > sum(len(find_images(place, name).images) for name in folders)


def beside(place: Path) -> tuple[int, list[str]]:
    """How many images lie right in a folder, and the names of its folders. Raises InputError where it is not read."""
    with _readable(place):
        entries = [entry for entry in os.scandir(place) if not is_passed_over(entry.name)]
        folders = sorted(entry.name for entry in entries if entry.is_dir())
        return sum(is_image(entry.name) and entry.is_file() for entry in entries), folders


@contextmanager
def _readable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror or error}.", "Check its permissions.") from error


def is_pattern(place: Path) -> bool:
    """Whether it stands for several files, such as photos/*.jpg."""
    return glob.has_magic(str(place)) and not place.exists()


def matching(pattern: Path) -> ImageFolder:
    """The images that a pattern stands for; ** is any folders. Raises InputError where there are none."""
    found = [name for name in glob.glob(str(pattern), recursive=True) if is_image(name) and os.path.isfile(name)]  # noqa: PTH207, PTH113
    if not found:
        raise InputError(
            f"No image is called like {pattern}.", "Put quotes around a pattern, such as --data 'photos/**/*.jpg'."
        )
    return of_paths(pattern, found)


def parted(images: ImageFolder) -> tuple[list[int], list[int], int]:
    """Indices of the images to train on and of those to judge by, and how many of the first would be among the second
    but have the same content as others.

    By path, every fifth of 50 runs of neighbours is to judge by, of more than 25,000 images 5,000 in ten runs: pictures
    that were taken one after another stay together, but at the ends of a run.
    Raises InputError for fewer than FEWEST images.
    """
    count = len(images)
    if count < FEWEST:
        raise InputError(
            f"{images.root} holds {count} images without labels, too few to train on some and to judge by others.",
            f"Give {FEWEST} at least; a few hundred say much more.",
        )
    share = max(_SHARE, -(-count // _MOST))
    run = -(-count // (_RUNS * share))
    val = [i for i in range(count) if i // run % share == share - 1]
    chosen = set(val)
    train = [i for i in range(count) if i not in chosen]
    again = {val[i] for i in repeated(images.subset(train), images.subset(val))}
    return sorted([*train, *again]), [i for i in val if i not in again], len(again)


def repeated(train: ImageFolder, val: ImageFolder) -> list[int]:
    """Indices of those of `val` whose content one of `train` has: by size and by both ends of the file."""
    sizes: defaultdict[int, list[Path]] = defaultdict(list)
    for other in (train.root / name for name in train.paths):
        sizes[other.stat().st_size].append(other)
    contents: dict[int, set[bytes]] = {}
    found = []
    for index, name in enumerate(val.paths):
        path = val.root / name
        size = path.stat().st_size
        if size not in contents:
            contents[size] = {_ends(twin) for twin in sizes.get(size, ())}
        if contents[size] and _ends(path) in contents[size]:
            found.append(index)
    return found


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(_READ)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _READ))
        return hashlib.sha256(first + file.read(_READ)).digest()
