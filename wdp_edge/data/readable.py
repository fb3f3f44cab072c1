"""Leaving unreadable images out, up to a limit."""

from __future__ import annotations

from dataclasses import replace

from wdp_edge import progress
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.loading import Request, decoded, named, unreadable, view_of
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.errors import InputError

_BATCH = 64


def readable(folder: ImageFolder, preprocessing: Preprocessing, limit: int, workers: int) -> ImageFolder:
    """The folder without the images that cannot be decoded; says how many there are, and which.

    limit: how many these may be. With 0 nothing is looked at here: whoever reads a broken image raises.
    Raises InputError when there are more, or when a class loses all its images.
    """
    if limit == 0:
        return folder
    errors = find_unreadable(folder, preprocessing, workers)
    if len(errors) > limit:
        raise unreadable(folder, errors, f"max_unreadable in [data] allows {limit}.")
    if not errors:
        return folder
    progress.say(f"{named(folder, errors)}; left out.")
    kept = folder.subset([i for i, path in enumerate(folder.paths) if path not in errors])
    if gone := folder.present() - kept.present():
        raise InputError(
            f"No image of class '{folder.classes[min(gone)]}' in {folder.root} can be read.",
            "Replace the files and start again.",
        )
    return kept


def find_unreadable(folder: ImageFolder, preprocessing: Preprocessing, workers: int) -> dict[str, str]:
    """Decodes every image: paths of those that cannot be, and why."""
    # One pixel is enough to have a file decoded, and cheap to pass between processes.
    view = replace(view_of(folder, preprocessing), size=(1, 1), crop_mode="squash")
    parts = [range(start, min(start + _BATCH, len(folder))) for start in range(0, len(folder), _BATCH)]
    errors: dict[str, str] = {}
    with progress.task("check all images", len(folder)) as advance:
        requests = (Request.of(folder, part) for part in parts)
        for part, batch in zip(parts, decoded(view, requests, workers), strict=True):
            errors |= batch.errors
            advance(len(part))
    return errors
