"""Conversion of a model once, where several precisions start from the same converted form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch.export import ExportedProgram


T = TypeVar("T")


class LastConversion(Generic[T]):
    """The last thing that was converted in this process. Only one is kept, because a model may be large."""

    def __init__(self) -> None:
        self._key = ""
        self._made: list[T] = []

    def get(self, program: ExportedProgram, make: Callable[[], T], *more: str) -> T:
        """What `make` gives for this program, made again for a different one. more: what else decides the result."""
        key = fingerprint(program, *more)
        if self._key != key:
            self._key, self._made = "", []
            self._made = [make()]
            self._key = key
        return self._made[0]


def fingerprint(program: ExportedProgram, *more: str) -> str:
    """Equal for equal graphs with equal weights."""
    digest = hashlib.sha256("\n".join((str(program.graph), *more)).encode())
    for name, value in {**program.state_dict, **program.constants}.items():
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
