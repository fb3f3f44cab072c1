"""How one library names the parts of a Vision Transformer, as a table that leads to timm's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = dict[str, Tensor]
_PART = re.compile(r"(.*\.attn)\.([qkv])\.(weight|bias)")


def _same(weights: Weights) -> Weights:
    return weights


@dataclass(frozen=True)
class Layout:
    """The keys of one library, below the prefix of a tower.

    mark: a key that every tower has. needs: further keys, one of which must be there; () for none. renames: pairs of a
    regular expression and what it becomes, applied in this order. heads: keys beside the tower -> timm's, relative to
    the prefix without its last name. drop: keys of what inference does not need, as a regular expression. finish: what
    names alone do not do, on all renamed weights.
    """

    name: str
    mark: str
    renames: tuple[tuple[str, str], ...] = ()
    heads: Mapping[str, str] | None = None
    drop: str = ""
    needs: tuple[str, ...] = ()
    finish: Callable[[Weights], Weights] = _same

    def prefixes(self, keys: Iterable[str]) -> list[str]:
        """Of all towers of this layout among `keys`."""
        names = set(keys)
        found = [key.removesuffix(self.mark) for key in names if key.endswith(self.mark)]
        whole = [prefix for prefix in found if not prefix or prefix.endswith(".")]
        return [p for p in whole if not self.needs or any(p + key in names for key in self.needs)]

    def beside(self, keys: Iterable[str], prefix: str) -> dict[str, str]:
        """Keys of the head that stands beside the tower -> timm's."""
        names = set(keys)
        outer = prefix[: prefix.rstrip(".").rfind(".") + 1]
        return {outer + key: name for key, name in (self.heads or {}).items() if outer + key in names}

    def drops(self, key: str) -> bool:
        """Whether inference does not need this entry of the tower."""
        return bool(self.drop) and re.fullmatch(self.drop, key) is not None

    def convert(self, tower: Mapping[str, Tensor], head: Mapping[str, Tensor]) -> Weights:
        """By timm's names. tower: without its prefix. head: what stands beside it, named as timm does already."""
        renamed: Weights = dict(head)
        for key, value in tower.items():
            if self.drops(key):
                continue
            for pattern, name in self.renames:
                key = re.sub(pattern, name, key)
            renamed[key] = value
        return self.finish(fused(renamed))


def fused(weights: Weights) -> Weights:
    """With query, key and value of every attention as one matrix, as timm has them.

    A key without a bias leaves the other two biases apart, which timm calls q_bias and v_bias then.
    """
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    out: Weights = {}
    for key, value in weights.items():
        if match := _PART.fullmatch(key):
            parts.setdefault((match[1], match[3]), {})[match[2]] = value
        else:
            out[key] = value
    for (attention, kind), found in parts.items():
        if len(found) == 3:
            out[f"{attention}.qkv.{kind}"] = torch.cat([found[part] for part in "qkv"])
        else:
            out |= {f"{attention}.{part}_{kind}": value for part, value in found.items()}
    return out


def without_key_bias(weights: Weights) -> Weights:
    """The biases of queries and values alone, for code that holds the bias of the keys at zero, whatever is stored."""
    out: Weights = {}
    for key, value in weights.items():
        if key.endswith(".attn.qkv.bias"):
            query, _, out[key.replace("qkv.bias", "v_bias")] = torch.chunk(value, 3)
            out[key.replace("qkv.bias", "q_bias")] = query
        else:
            out[key] = value
    return out


def as_token(value: Tensor) -> Tensor:
    """[D] or [1, D] or [1, 1, D] -> [1, 1, D]."""
    return value.reshape(1, 1, -1)


def as_positions(value: Tensor) -> Tensor:
    """[N, D] or [1, N, D] -> [1, N, D]."""
    return value.reshape(1, *value.shape[-2:])
