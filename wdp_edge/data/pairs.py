"""Images and their masks: images/NAME.jpg and masks/NAME.png, a class for every pixel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.errors import InputError
from wdp_edge.files import not_a_folder
from wdp_edge.task import Labels

IMAGES, MASKS = "images", "masks"
_NAMED = 3
_LAYOUT = f"Put images into {IMAGES}/ and masks of the same names into {MASKS}/, such as {IMAGES}/1.jpg, {MASKS}/1.png."


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
