"""Which entries of a checkpoint hold weights: trainers wrap them in tables of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wdp_edge.models.layouts import Tower, is_averaged, towers

# Names of entries with weights, the ones to take first; averaged ones, whatever they are called, come before.
SETS = ("state_dict_ema", "model_ema", "state_dict", "model")
_DEEPEST = 4


@dataclass(frozen=True)
class WeightSet:
    """Tensors that stand together. entry: dotted, "" at the top. odd: keys beside them whose values are no tensors."""

    entry: str
    tensors: dict[str, Tensor]
    towers: list[Tower]
    odd: tuple[str, ...]


def find_sets(data: Any) -> list[WeightSet]:
    """All sets with a Vision Transformer in them, best first; where there is none, the largest set of tensors alone."""
    found = list(_sets(data, ()))
    able = [one for one in found if one.towers]
    return sorted(able, key=_rank) if able else sorted(found, key=lambda one: -len(one.tensors))[:1]


def _sets(data: Any, path: tuple[str, ...]) -> Iterator[WeightSet]:
    if not isinstance(data, Mapping) or len(path) > _DEEPEST:
        return
    tensors = {str(key): value for key, value in data.items() if isinstance(value, Tensor)}
    if tensors:
        odd = tuple(str(k) for k, v in data.items() if not isinstance(v, Tensor | Mapping))
        yield WeightSet(".".join(path), tensors, towers(tensors), odd)
    for key, value in data.items():
        yield from _sets(value, (*path, str(key)))


def _rank(one: WeightSet) -> tuple[bool, int, int, str]:
    known = SETS.index(one.entry) if one.entry in SETS else len(SETS)
    return (not is_averaged(one.entry), known, one.entry.count("."), one.entry)
