"""What every target's reader of files needs: one check that a file is there, and weights summed by number format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from wdp_edge.errors import InputError
from wdp_edge.protocols.target import WeightBytes

AGAIN = "Export it again with wdp-edge export."
COPY_AGAIN = "Copy it again, or export it again with wdp-edge export."


def check_exists(path: Path, folder: bool = False) -> None:
    """Raises InputError when there is no such file. folder: a folder is one, too."""
    if not (path.exists() if folder else path.is_file()):
        raise InputError(f"{path} does not exist.", "Check the path, or export it with wdp-edge export.")


def stored_weights(constants: Iterable[tuple[str, int]]) -> tuple[WeightBytes, ...]:
    """constants: number format and bytes of each -> their sums, the format with most bytes first."""
    tensors, sizes = Counter[str](), Counter[str]()
    for dtype, size in constants:
        tensors[dtype] += 1
        sizes[dtype] += size
    return tuple(WeightBytes(dtype, tensors[dtype], size) for dtype, size in sizes.most_common())
