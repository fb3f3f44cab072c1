"""Reading trained checkpoints: the one place that knows how other tools save weights. Never runs what is in a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from wdp_edge.errors import InputError
from wdp_edge.models.archive import archive_fault, is_plain
from wdp_edge.models.weight_files import Kind, damaged, foreign, kind_of

# Entries that hold a set of weights, the ones to take first: averaged weights are what timm takes, too.
SETS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclass(frozen=True)
class Weights:
    """A set of weights as it stands in a checkpoint.

    taken: the entry it stands under, "" where it is all there is. others: entries with further sets of weights.
    """

    tensors: dict[str, Tensor]
    taken: str = ""
    others: tuple[str, ...] = ()

    @property
    def choice(self) -> str:
        """One sentence for users, where there was something to choose from; else ""."""
        if not self.others:
            return ""
        averaged = " (averaged)" if "ema" in self.taken else ""
        return f"took the weights under '{self.taken}'{averaged}; it also holds: {', '.join(self.others)}"


def read_weights(path: Path, key: str = "") -> dict[str, Tensor]:
    """Tensors of `read_checkpoint`."""
    return read_checkpoint(path, key).tensors


def read_checkpoint(path: Path, key: str = "") -> Weights:
    """Weights of a .safetensors, .pt or .pth file, without wrappers such as {"model": …} or "module.".

    key: the entry to take where there are several, dots lead into entries of entries; the first of `SETS` when "".
    The file's content decides how it is read, not its name.
    Raises InputError for a file that is no weights file, one that only running code could read, or an unknown key.
    """
    data = _read(path)
    taken, data, others = (key, _entry(path, data, key), ()) if key else _first_set(data)
    if not isinstance(data, Mapping) or not data or not all(isinstance(v, Tensor) for v in data.values()):
        raise _no_weights(path, data, taken)
    if odd := sorted(str(name) for name, tensor in data.items() if not is_plain(tensor)):
        raise InputError(
            f"Checkpoint {path} holds no plain numbers in {odd[0]}.", "Save its weights as dense float32 tensors."
        )
    return Weights({str(k).removeprefix("module."): v for k, v in data.items()}, taken, others)


def _read(path: Path) -> Any:
    kind = kind_of(path)
    if kind is Kind.TORCH and (fault := archive_fault(path)):
        raise damaged(path, fault)
    try:
        if kind is Kind.SAFETENSORS:
            return load_file(path)
        with path.open("rb") as file:  # of a path torch looks at the suffix
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
    return InputError(
        f"Checkpoint {path} holds an object of {found[1]} besides tensors: making it could run code.",
        "Where you trust the file, save its weights alone: torch.save(model.state_dict(), 'weights.pth').",
    )


def _first_set(data: Any) -> tuple[str, Any, tuple[str, ...]]:
    if not isinstance(data, Mapping):
        return "", data, ()
    found = [name for name in SETS if isinstance(data.get(name), Mapping) and data[name]]
    return (found[0], data[found[0]], tuple(found[1:])) if found else ("", data, ())


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
        odd = next((f"{str(k)!r} is of {type(v).__name__}" for k, v in data.items() if not isinstance(v, Tensor)), "")
        what = f"a table in which {odd}" if odd else "an empty table"
    return InputError(
        f"Checkpoint {path} holds no state dict{where}, but {what}.",
        "Name the entry with the weights with checkpoint_key in [model], or save torch.save(model.state_dict(), …).",
    )
