"""Decodes images: a file becomes the pixels that the model sees, its mask likewise. Also the program of the decoding
processes.

Imports only the standard library and Pillow and is started as a file: a process is ready after 0.1 s, where
one that imports torch takes two. It needs neither fork, which is unsafe beside OpenMP threads, nor a caller's
`__main__` that can be imported again, as spawn and forkserver do.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import random
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from PIL import Image

_LOSSY = ("JPEG", "MPO")
IGNORED = 255  # in a mask: a pixel of no class


@dataclass(frozen=True)
class Augmentation:
    """Random crop and mirror of training images.

    min_crop: smallest share of the image's area that is kept; 1 keeps the whole image.
    ratio: range of the crop's width / height, relative to that of the model's input.
    flip: mirror every other image.
    """

    flip: bool = True
    min_crop: float = 0.6
    ratio: tuple[float, float] = (0.85, 1.18)


@dataclass(frozen=True)
class View:
    """Which pixels of a file are wanted: timm's evaluation view, or with `augmentation` a random one.

    mask_classes: the model's classes, where every image comes with a mask of them; 0 where none does.
    """

    root: str
    size: tuple[int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    fill: tuple[int, ...]
    augmentation: Augmentation | None = None
    mask_classes: int = 0

    @property
    def bytes(self) -> int:
        """Size of one image, followed by its mask."""
        return (3 + (self.mask_classes > 0)) * self.size[0] * self.size[1]

    def of_mask(self) -> View:
        """The same view of a mask: classes are not mixed."""
        return replace(self, interpolation="nearest", fill=(IGNORED,))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> View:
        augmentation = Augmentation(**data["augmentation"]) if data["augmentation"] else None
        return cls(**{**data, "fill": tuple(data["fill"]), "augmentation": augmentation})


def pixels(view: View, path: str, seed: int, mask: str = "") -> bytes:
    """The image as RGB bytes, [H, W, 3], and behind it those of its mask, [H, W], where there is one.

    seed: of the random view, the same of both; unused in the evaluation view.
    Raises whatever Pillow raises for broken files: see `UNREADABLE`; ValueError for a mask that does not fit.
    """
    with _opened(f"{view.root}/{path}") as file:
        image = to_rgb(file)
    found = _seen(image, view, seed).tobytes()
    if not mask:
        return found
    return found + _seen(_class_numbers(view, mask, image.size), view.of_mask(), seed).tobytes()


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """The file's first picture. Whatever a damaged file makes Pillow raise is one of UNREADABLE; its remarks on odd
    files are not heard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as file:
                file.load()
                yield file
        except UNREADABLE:
            raise
        except Exception as error:  # struct.error, zlib.error, IndexError and others, by format
            raise ValueError(f"{type(error).__name__}: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """As timm and torchvision make it: transparency is dropped, the orientation in EXIF not looked at.

    But grey of 16 bits is scaled to 8, where Pillow's own conversion makes everything above 255 white.
    Raises ValueError for pixels whose range the file does not state: signed, 32 bits, floating-point.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = image.convert("I").point(_to_eight_bits(_white(image), _is_inverted(image)), "L")
    return image.convert("RGB")


def _white(image: Image.Image) -> int:
    """The largest value that a pixel of a grey image of more than 8 bits can have."""
    scaled = image.format in ("PNG", "PPM")  # these are 16-bit ones also where Pillow holds them in 32 bits
    if image.mode == "F" or (image.mode == "I" and not scaled):
        raise ValueError("its pixels are signed, 32-bit or floating-point numbers of unknown range, not 8 or 16 bits")
    return int(2 ** _tiff_tag(image, _BITS_PER_SAMPLE, 16) - 1)


def _is_inverted(image: Image.Image) -> bool:
    """Whether 0 is white; Pillow sees to it in images of 8 bits only."""
    return _tiff_tag(image, _PHOTOMETRIC, 1) == 0


_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262


def _tiff_tag(image: Image.Image, number: int, otherwise: int) -> int:
    found = getattr(image, "tag_v2", {}).get(number, otherwise) if image.format == "TIFF" else otherwise
    return int(found[0] if isinstance(found, tuple) else found)


@functools.lru_cache(maxsize=4)
def _to_eight_bits(white: int, inverted: bool) -> list[int]:
    """For each value of 16 bits the nearest of 8 bits, `white` becoming 255."""
    table = [min(255, (255 * value + white // 2) // white) for value in range(1 << 16)]
    return [255 - value for value in table] if inverted else table


def check_mask(mask: Image.Image, size: tuple[int, int]) -> None:
    """Raises ValueError unless an opened mask holds 8-bit numbers and is as large as its image. Reads no pixels."""
    if mask.format in _LOSSY:
        raise ValueError(f"it is a {mask.format} file, which does not keep class numbers: save masks as PNG")
    if mask.mode not in ("L", "P"):
        raise ValueError(f"it holds pixels of kind {mask.mode}, not 8-bit class numbers")
    if mask.size != size:
        (width, height), (wide, high) = mask.size, size
        raise ValueError(f"it has {width} x {height} pixels, the image {wide} x {high}")


def _class_numbers(view: View, path: str, size: tuple[int, int]) -> Image.Image:
    """A mask with its classes as brightness; a palette's colours are not looked at."""
    with of_mask(path), _opened(f"{view.root}/{path}") as file:
        check_mask(file, size)
        mask = Image.frombytes("L", file.size, file.tobytes())
        found = [number for number, pixels in enumerate(mask.histogram()[:IGNORED]) if pixels]
        if found and found[-1] >= view.mask_classes:
            raise ValueError(f"it holds class {found[-1]}, but the model's classes are 0 to {view.mask_classes - 1}")
    return mask


UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


@contextlib.contextmanager
def of_mask(path: str) -> Iterator[None]:
    """Errors inside say that they are the mask's: they are reported with its image."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"mask {path}: {error}") from error


def _seen(image: Image.Image, view: View, seed: int) -> Image.Image:
    if view.augmentation is None:
        return _evaluation_view(image, view)
    return _random_view(image, view, view.augmentation, random.Random(seed))


def _evaluation_view(image: Image.Image, view: View) -> Image.Image:
    """The same pixels as timm's evaluation transform."""
    height, width = view.size
    resample = Image.Resampling[view.interpolation.upper()]
    scaled = (math.floor(width / view.crop_pct), math.floor(height / view.crop_pct))
    if view.crop_mode == "squash":
        return _crop(image.resize(scaled, resample), width, height)
    ratios = image.width / scaled[0], image.height / scaled[1]
    if view.crop_mode == "border":
        image = image.resize(_divided(image, max(ratios)), resample)
        return _crop(image, width, height, view.fill)
    if scaled[0] != scaled[1]:
        return _crop(image.resize(_divided(image, min(ratios)), resample), width, height)
    short, side = min(image.size), scaled[0]
    shape = (side if n == short else int(side * n / short) for n in image.size)
    return _crop(image.resize(tuple(shape), resample), width, height)  # type: ignore[arg-type]


def _divided(image: Image.Image, ratio: float) -> tuple[int, int]:
    return round(image.width / ratio), round(image.height / ratio)


def _crop(image: Image.Image, width: int, height: int, fill: tuple[int, ...] = (0, 0, 0)) -> Image.Image:
    """The centre; what lies outside the image is filled, outside a mask it is ignored."""
    across, down = max(0, width - image.width), max(0, height - image.height)
    if across or down:
        outside = (IGNORED,) if image.mode == "L" else fill
        padded = Image.new(image.mode, (image.width + across, image.height + down), outside)
        padded.paste(image, (across // 2, down // 2))
        image = padded
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _random_view(image: Image.Image, view: View, augmentation: Augmentation, rng: random.Random) -> Image.Image:
    """A crop of random area, shape and place, resized to the model's input, perhaps mirrored."""
    mirrored = augmentation.flip and rng.random() < 0.5
    height, width = view.size
    box = _random_box(image, width / height, augmentation, rng)
    image = image.resize((width, height), Image.Resampling[view.interpolation.upper()], box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image


def _random_box(
    image: Image.Image, shape: float, augmentation: Augmentation, rng: random.Random
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the crop, in fractions of pixels.

    A crop that does not fit is shrunk until it does, so that every draw gives one.
    """
    if augmentation.min_crop >= 1:
        return 0, 0, image.width, image.height
    low, high = (math.log(r) for r in augmentation.ratio)
    area = image.width * image.height * rng.uniform(augmentation.min_crop, 1)
    ratio = shape * math.exp(rng.uniform(low, high))
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    fit = min(1.0, image.width / width, image.height / height)
    width, height = width * fit, height * fit
    left = rng.random() * max(0.0, image.width - width)
    top = rng.random() * max(0.0, image.height - height)
    return left, top, min(left + width, image.width), min(top + height, image.height)


def decode(
    view: View, paths: Sequence[str], seeds: Sequence[int], masks: Sequence[str]
) -> tuple[bytes, dict[str, str]]:
    """The images in order, black where a file is unreadable, and why each of those is.

    masks: of the images, or none; each follows its image.
    """
    parts, errors = [], {}
    for path, seed, mask in zip(paths, seeds, masks or [""] * len(paths), strict=True):
        try:
            parts.append(pixels(view, path, seed, mask))
        except UNREADABLE as error:
            parts.append(bytes(view.bytes))
            errors[path] = str(error) or type(error).__name__
    return b"".join(parts), errors


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until the asking process closes the pipe or is gone.

    First line: the View. Then per line {"paths": […], "seeds": […], "masks": […]}, answered by
    {path: error} in a line and the pixels.
    """
    view = View.from_json(json.loads(requests.readline()))
    for line in requests:
        request = json.loads(line)
        data, errors = decode(view, request["paths"], request["seeds"], request["masks"])
        answers.write(json.dumps(errors).encode() + b"\n")
        answers.write(data)
        answers.flush()


def encode(view: View) -> bytes:
    return json.dumps(asdict(view)).encode() + b"\n"


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; these processes end when their pipe does, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(BrokenPipeError, json.JSONDecodeError):
        serve(sys.stdin.buffer, sys.stdout.buffer)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.close()
