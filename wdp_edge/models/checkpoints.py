"""Reading trained checkpoints: the one place that knows how other tools save weights. Never runs what is in a file.

What a .pt or .pth says about itself is looked at before anything is allocated.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, strided

from wdp_edge.errors import InputError
from wdp_edge.models.heads import READ, heads_among
from wdp_edge.models.layouts import Converted, Tower, convert, is_averaged
from wdp_edge.models.strangers import check_names, no_tower
from wdp_edge.models.weight_files import FileKind, damaged, foreign, has_checksums, kind_of
from wdp_edge.models.weight_folders import weight_files
from wdp_edge.models.weight_sets import find_sets
from wdp_edge.models.whole import check_tensors

_SHOWN = 6
_WIDTHS = ("fc_norm.weight", "norm.weight", "patch_embed.proj.weight")  # the first tells what a head reads

# What makes a NumPy scalar of its type and its bytes: NumPy has no public name for it.
_SCALAR: Any = np.float64(0).__reduce__()[0]
# What training scripts store beside weights: plain data, whose classes run no code when they are made.
HARMLESS: list[Any] = [
    argparse.Namespace,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # NumPy 1 and 2
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdg"},
]


@dataclass(frozen=True)
class Weights:
    """A Vision Transformer as it stands in a checkpoint, by timm's names.

    entry, prefix: what to ask for to take these again; "" where there is nothing else. others: further entries and
    prefixes. source: whose names the file has. unused: keys that the model has no use for. left_out: entries that are
    not tensors. heads: further linear layers that are named as heads are, each with its outputs.
    """

    tensors: dict[str, Tensor]
    entry: str = ""
    prefix: str = ""
    others: tuple[str, ...] = ()
    source: str = "timm"
    unused: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    heads: Mapping[str, int] = field(default_factory=dict)

    @property
    def choice(self) -> str:
        """One sentence for users, where there was something to choose from; else ""."""
        if not self.others:
            return ""
        taken = self.prefix or self.entry
        averaged = " (averaged)" if is_averaged(taken) else ""
        where = f"under '{taken}'" if taken else "at its top"
        return f"took the weights {where}{averaged}; it also holds: {', '.join(self.others)}"

    @property
    def summary(self) -> str:
        """Whose names these are, and what is not used, in one line."""
        groups: dict[str, list[str]] = {}
        for key in self.unused:
            groups.setdefault(key.split(".")[0], []).append(key)
        shown = [f"{name} ({len(keys)} tensors)" if len(keys) > 1 else keys[0] for name, keys in groups.items()]
        shown += self.left_out
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        said = f"; not used: {', '.join(shown[:_SHOWN])}{more}" if shown else ""
        return f"names of {self.source}{''.join(c if c.isprintable() else '?' for c in said)}"


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by their own names. Raises InputError like `read_checkpoint`."""
    data = _read(path)
    if not isinstance(data, Mapping) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise _no_weights(path, data, "")
    return _plain(path, data)


def read_checkpoint(path: Path, key: str = "", prefix: str = "") -> Weights:
    """The Vision Transformer in a .safetensors, .pt or .pth file, in a sharded index or in a Hugging Face folder.

    Wrappers such as {"model": …} or "module." are taken off and names of other libraries are turned into timm's.
    key: the entry to take where there are several, dots lead into entries of entries. prefix: of the keys to take where
    there are several towers. Where neither says, averaged weights are taken first, as timm does.
    The file's content decides how it is read, not its name.
    Raises InputError for a file that is not a weights file, one that only running code could read, an unknown key or
    prefix, and weights of another kind of model, which is named.
    """
    data = _read_all(path)
    data = _entry(path, data, key) if key else data
    sets = find_sets(data)
    if not sets:
        raise _no_weights(path, data, key)
    chosen = sets[0]
    names = [*chosen.tensors, *chosen.odd]
    if not chosen.towers:
        raise no_tower(path, names)
    tower = _tower(path, chosen.towers, prefix)
    check_names(path, [name.removeprefix(tower.prefix) for name in names if name.startswith(tower.prefix)])
    found = _converted(path, chosen.tensors, tower)
    check_tensors(path, found.tensors)
    further = [one.entry or "the top level" for one in sets[1:] if one.towers]
    beside = [one.prefix.rstrip(".") or "keys without a prefix" for one in chosen.towers if one != tower]
    return Weights(
        tensors=found.tensors,
        entry=".".join(part for part in (key, chosen.entry) if part) if key or further else "",
        prefix=tower.prefix.rstrip(".") if beside else "",
        others=tuple(further + beside),
        source=found.layout,
        unused=found.unused,
        left_out=chosen.odd,
        heads=heads_among(
            {name: value for name, value in found.tensors.items() if name not in READ}
            | {name: chosen.tensors[name] for name in found.unused},
            next(len(found.tensors[key]) for key in _WIDTHS if key in found.tensors),
        ),
    )


def _tower(path: Path, found: list[Tower], prefix: str) -> Tower:
    if not prefix:
        return found[0]
    for tower in found:
        if tower.prefix.rstrip(".") == prefix.rstrip("."):
            return tower
    names = ", ".join(tower.prefix.rstrip(".") or "none" for tower in found)
    raise InputError(f"Checkpoint {path} has no Vision Transformer below '{prefix}'.", f"Prefixes of such: {names}.")


def _converted(path: Path, tensors: Mapping[str, Tensor], tower: Tower) -> Converted:
    """Raises InputError where parts are missing that names or shapes are made of."""
    plain = _plain(path, tensors)
    try:
        return convert(plain, tower)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Checkpoint {path} has names of {tower.layout.name}, but not all parts of such a model: "
            f"{_first_line(error)}.",
            "Give the whole model, as it was saved.",
        ) from error


def _plain(path: Path, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Raises InputError for tensors that are no plain numbers."""
    if odd := sorted(str(name) for name, tensor in data.items() if not is_plain(tensor)):
        raise InputError(
            f"Checkpoint {path} holds a tensor that is not plain numbers: {odd[0]}.",
            "Save its weights as dense float32 tensors.",
        )
    return dict(data)


def _read_all(path: Path) -> Any:
    """What a file holds, or all files of a folder or an index together."""
    files = weight_files(path)
    if len(files) == 1:
        return _read(files[0])
    together: dict[str, Any] = {}
    for file in files:
        together |= read_weights(file)
    return together


def _read(path: Path) -> Any:
    kind = kind_of(path)
    if kind is FileKind.TORCH and (fault := archive_fault(path)):
        raise damaged(path, fault)
    try:
        if kind is FileKind.SAFETENSORS:
            return load_file(path)
        # Of a path torch looks at the suffix.
        with path.open("rb") as file, torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler makes of foreign bytes: it declares no errors of its own
        if type(error).__module__ in ("_pickle", "pickle", "struct"):
            raise _unpicklable(path, str(error)) from error
        raise damaged(path, _first_line(error)) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _unpicklable(path: Path, said: str) -> InputError:
    """What is said where torch refuses to make an object of a class that the file names."""
    found = re.search(r"GLOBAL ([\w.]+) was not", said)
    if found is None:
        return damaged(path)
    foreign(path, [found[1]])
    if found[1].endswith("multiarray._reconstruct"):
        return InputError(
            f"Checkpoint {path} holds NumPy arrays, not tensors.",
            "If you trust the file, save its arrays as tensors: torch.from_numpy of each, then torch.save.",
        )
    return InputError(
        f"Checkpoint {path} holds an object of {found[1]} besides tensors: loading it could run code.",
        "If you trust the file, save its weights alone: torch.save(model.state_dict(), 'weights.pth').",
    )


def _entry(path: Path, data: Any, key: str) -> Any:
    """Raises InputError for a key that is not there, with those that are."""
    found = data
    rest = key
    while rest:
        if isinstance(found, Mapping) and rest in found:
            return found[rest]
        name, _, rest = rest.partition(".")
        if not isinstance(found, Mapping) or name not in found:
            break
        found = found[name]
    sets = [str(k) for k, v in data.items() if isinstance(v, Mapping)] if isinstance(data, Mapping) else []
    has = f"Entries that may hold weights: {', '.join(sets)}." if sets else "It holds one set of weights: leave it out."
    raise InputError(f"Checkpoint {path} has no entry '{key}' (checkpoint_key).", has)


def _no_weights(path: Path, data: Any, taken: str) -> InputError:
    where = f" under '{taken}'" if taken else ""
    what = f"an object of {type(data).__name__}"
    if isinstance(data, Mapping):
        odd = next(
            (f"{str(k)!r} is of type {type(v).__name__}" for k, v in data.items() if not isinstance(v, Tensor)), ""
        )
        what = f"a table in which {odd}" if odd else "an empty table"
    return InputError(
        f"Checkpoint {path} holds no state dict{where}, but {what}.",
        "Name the entry with the weights with checkpoint_key in [model], or save torch.save(model.state_dict(), …).",
    )


def archive_fault(path: Path) -> str:
    """What is wrong with a torch.save archive, in words: it unpacks to more than its file holds, or is damaged.

    torch.save itself never compresses; torch.load does not look at the checksums, and torch.save may be told to leave
    them out. "" for a sound one, and for what is not a zip archive: its tensors are read from the file one by one.
    """
    if not zipfile.is_zipfile(path):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
                return "it unpacks to more than the file holds"
            broken = archive.testzip() if has_checksums(archive) else None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return f"the archive cannot be read ({error})"
    return f"the checksum of {broken} is wrong" if broken else ""


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor has its numbers, each in its own place: neither sparse, quantized, complex nor without data."""
    if tensor.layout is not strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
        return False
    # A stride of 0 makes any shape out of one number.
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
