"""Images and their labels as tensors: decoded here or in other processes, in the order asked for, in bounded memory."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from subprocess import PIPE, Popen
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from wdp_edge import progress
from wdp_edge.data import worker
from wdp_edge.data.folder import ImageFolder
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.data.worker import Augmentation, View
from wdp_edge.errors import InputError, SetupError

_BATCH = 64
_NAMED = 3
_CHECKED = 64


@dataclass(frozen=True)
class Request:
    """One batch. seeds: one per path, for random views. masks: one per path, or none."""

    paths: tuple[str, ...]
    seeds: tuple[int, ...]
    masks: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: ImageFolder, indices: Sequence[int], seeds: Sequence[int] | None = None) -> Request:
        """These images; seeds as they are needed for random views."""
        chosen = folder.subset(indices)
        return cls(chosen.paths, tuple(seeds or (0,) * len(indices)), chosen.masks)


@dataclass(frozen=True)
class Decoded:
    """images: [n, 3, H, W] uint8. masks: [n, H, W] uint8, where there are any.

    errors: why a path could not be read (its image is black).
    """

    images: Tensor
    masks: Tensor | None
    errors: dict[str, str]


def view_of(folder: ImageFolder, preprocessing: Preprocessing, augmentation: Augmentation | None = None) -> View:
    """What a decoding process needs to know about these images."""
    red, green, blue = (round(255 * v) for v in preprocessing.mean)
    return View(
        root=os.path.abspath(folder.root),  # noqa: PTH100 (resolve() would follow links)
        size=preprocessing.size,
        interpolation=preprocessing.interpolation,
        crop_pct=preprocessing.crop_pct,
        crop_mode=preprocessing.crop_mode,
        fill=(red, green, blue),
        augmentation=augmentation,
        mask_classes=len(folder.classes) if folder.masks else 0,
    )


def load_images(
    folder: ImageFolder,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    workers: int = 0,
    title: str = "Loading images",
) -> Tensor:
    """The evaluation views of these images: [n, 3, H, W] uint8. Masks are not looked at.

    workers: decoding processes; 0 decodes in this one.
    Raises InputError that counts and names unreadable images.
    """
    return load_labelled(replace(folder, masks=()), indices, preprocessing, workers, title)[0]


@dataclass(frozen=True)
class Views:
    """Evaluation views of images of a folder, decoded when they are asked for, in bounded memory."""

    folder: ImageFolder
    indices: Sequence[int]
    preprocessing: Preprocessing
    workers: int = 0
    title: str = "Loading images"

    def __len__(self) -> int:
        return len(self.indices)

    def split(self, size: int, /) -> Iterator[Tensor]:
        """[size, 3, H, W] uint8 each, the last one what is left. Raises InputError like `load_images`."""
        unlabelled = replace(self.folder, masks=())
        for images, _ in eval_batches(unlabelled, self.indices, self.preprocessing, size, self.workers, self.title):
            yield images


def load_labelled(
    folder: ImageFolder,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    workers: int = 0,
    title: str = "Loading images",
) -> tuple[Tensor, Tensor]:
    """The same as `load_images`, and the labels as `labels_of` gives them."""
    images = torch.empty((len(indices), 3, *preprocessing.size), dtype=torch.uint8)
    labels: list[Tensor] = []
    start = 0
    for part, known in eval_batches(folder, indices, preprocessing, _BATCH, workers, title):
        images[start : start + len(part)] = part
        start += len(part)
        labels.append(known)
    return images, torch.cat(labels) if labels else labels_of(folder, ())


def eval_batches(
    folder: ImageFolder,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    batch_size: int = _BATCH,
    workers: int = 0,
    title: str = "Loading images",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of evaluation views in the order of `indices`: [b, 3, H, W] uint8, and labels as `labels_of` gives them.

    The last batch may be smaller. An unreadable image ends the batches; once all others are looked at, raises
    InputError that counts and names them.
    """
    parts = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    requests = (Request.of(folder, part) for part in parts)
    errors: dict[str, str] = {}
    with progress.task(title, len(indices)) as advance:
        for part, batch in zip(parts, decoded(view_of(folder, preprocessing), requests, workers), strict=True):
            errors |= batch.errors
            if not errors:
                yield batch.images, labels_of(folder, part, batch.masks)
            advance(len(part))
    if errors:
        raise unreadable(folder, errors)


def check_headers(folder: ImageFolder) -> None:
    """Raises InputError that counts and names files that are not images, and masks that do not fit their images.

    Reads headers only: fast, before long work.
    """
    from PIL import Image, UnidentifiedImageError

    errors: dict[str, str] = {}
    with progress.task("check image files", len(folder)) as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd files
        for path, mask in zip(folder.paths, folder.masks or [""] * len(folder), strict=True):
            try:
                with Image.open(folder.root / path) as image:
                    size = image.size
                if mask:
                    with worker.of_mask(mask), Image.open(folder.root / mask) as opened:
                        worker.check_mask(opened, size)
            except worker.UNREADABLE as error:
                unknown = isinstance(error, UnidentifiedImageError)
                errors[path] = "not an image" if unknown else str(error) or type(error).__name__
            advance(1)
    if errors:
        raise unreadable(folder, errors)


def unreadable(folder: ImageFolder, errors: dict[str, str], limit: str = "") -> InputError:
    """The error for images that Pillow cannot decode. limit: a sentence on how many may be."""
    return InputError(
        f"{named(folder, errors)}.{' ' * bool(limit)}{limit}",
        "Replace or remove the files and start again, or set max_unreadable in [data].",
    )


def named(folder: ImageFolder, errors: dict[str, str]) -> str:
    """The beginning of a sentence that counts and names these images."""
    some = ", ".join(f"{path} ({reason})" for path, reason in list(errors.items())[:_NAMED])
    more = f" and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    count = f"{len(errors)} image{'s' if len(errors) > 1 else ''}"
    return f"{count} in {folder.root} cannot be read: {some}{more}"


def decoded(view: View, requests: Iterable[Request], workers: int) -> Iterator[Decoded]:
    """Answers to the requests, in their order. Closing the generator ends the processes.

    Each process holds one request at a time: it decodes the next one while the caller works on the last.
    """
    if workers < 1:
        for request in requests:
            data, errors = worker.decode(view, request.paths, request.seeds, request.masks)
            yield _decoded(np.frombuffer(data, np.uint8), view, errors)
        return
    processes: list[_Process] = []
    busy: deque[tuple[_Process, int]] = deque()
    try:
        for request in requests:
            answer = None
            if len(processes) < workers:
                processes.append(_Process(view))
                process = processes[-1]
            else:
                process, size = busy.popleft()
                answer = process.answer(size)
            process.ask(request)
            busy.append((process, len(request.paths)))
            if answer is not None:
                yield answer
        while busy:
            process, size = busy.popleft()
            yield process.answer(size)
    finally:
        for process in processes:
            process.close()


def _decoded(data: np.ndarray, view: View, errors: dict[str, str]) -> Decoded:
    """data: [n * view.bytes] uint8. Tensors are contiguous."""
    rows, colours = data.reshape(-1, view.bytes), 3 * view.size[0] * view.size[1]
    pixels = rows[:, :colours].reshape(-1, *view.size, 3).transpose(0, 3, 1, 2)
    masks = torch.from_numpy(rows[:, colours:].reshape(-1, *view.size).copy()) if view.mask_classes else None
    # A copy in any case: torch warns of memory that cannot be written, as bytes cannot.
    return Decoded(torch.from_numpy(np.array(pixels, order="C")), masks, errors)


class _Process:
    """One decoding process and its two pipes. It ends by itself when this process is gone."""

    def __init__(self, view: View) -> None:
        # -P: files in the caller's folder cannot shadow a module. -W: no remarks of Pillow on odd files.
        command = [sys.executable, "-P", "-W", "ignore", worker.__file__]
        self._view = view
        try:
            self._process = Popen(command, stdin=PIPE, stdout=PIPE)
        except OSError as error:
            raise SetupError(
                f"A decoding process cannot be started: {error.strerror or error}.",
                "Set workers = 0 in [data].",
            ) from error
        self._requests = cast(BinaryIO, self._process.stdin)
        self._answers = cast(BufferedReader, self._process.stdout)
        self._send(worker.encode(view))

    def ask(self, request: Request) -> None:
        message = {"paths": request.paths, "seeds": request.seeds, "masks": request.masks}
        self._send(json.dumps(message).encode() + b"\n")

    def answer(self, size: int) -> Decoded:
        """The answer to the one open request, of `size` images."""
        header = self._answers.readline()
        pixels = np.empty(size * self._view.bytes, np.uint8)
        if not header.endswith(b"\n") or self._answers.readinto(pixels.data) != len(pixels):
            raise self._ended()
        return _decoded(pixels, self._view, json.loads(header))

    def _send(self, message: bytes) -> None:
        try:
            self._requests.write(message)
            self._requests.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def _ended(self) -> SetupError:
        self._process.kill()
        status = self._process.wait()
        return SetupError(
            f"A decoding process ended unexpectedly (status {status}).",
            "Free memory, or set workers = 0 in [data].",
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            try:
                pipe.close()
            except BrokenPipeError:  # the unsent rest of a request to a process that is already gone
                continue


def labels_of(folder: ImageFolder, indices: Sequence[int], masks: Tensor | None = None) -> Tensor:
    """What is known of these images: their masks, [n, H, W] uint8, ones for all classes of each, [n, K] float32, or the
    class of each, [n] int64.

    masks: where the images have them, as they were decoded with the images.
    """
    if masks is not None:
        return masks
    if not folder.several:
        return torch.tensor([folder.labels[i] for i in indices], dtype=torch.int64)
    labels = torch.zeros(len(indices), len(folder.classes))
    for row, index in zip(labels, indices, strict=True):
        row[list(folder.several[index])] = 1.0
    return labels


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
        of_class = f" of class '{folder.classes[min(gone)]}'" if folder.classes else ""
        raise InputError(
            f"No image{of_class} in {folder.root} can be read.",
            "Replace the files and start again.",
        )
    return kept


def find_unreadable(folder: ImageFolder, preprocessing: Preprocessing, workers: int) -> dict[str, str]:
    """Decodes every image: paths of those that cannot be, and why."""
    # One pixel is enough to have a file decoded, and cheap to pass between processes.
    view = replace(view_of(folder, preprocessing), size=(1, 1), crop_mode="squash")
    parts = [range(start, min(start + _CHECKED, len(folder))) for start in range(0, len(folder), _CHECKED)]
    errors: dict[str, str] = {}
    with progress.task("check all images", len(folder)) as advance:
        requests = (Request.of(folder, part) for part in parts)
        for part, batch in zip(parts, decoded(view, requests, workers), strict=True):
            errors |= batch.errors
            advance(len(part))
    return errors
