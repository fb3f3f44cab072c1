"""A dataset of timm as images and lists on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wdp_edge.data.imported import Imported, import_split
from wdp_edge.runs.results import RESULT_VERSION


@dataclass(frozen=True)
class ImportResult:
    """`wdp_edge.import_dataset`: what is on disk now."""

    name: str
    splits: tuple[Imported, ...]
    version: int = RESULT_VERSION


def import_dataset(
    name: str, splits: Sequence[str], out: Path, data: Path | None = None, download: bool = False
) -> ImportResult:
    """Splits of a dataset of timm as lists and images in `out`; see `wdp_edge.data.imported.import_split`.

    data: where the dataset is, or is downloaded to. Raises InputError and SetupError as `import_split` does.
    """
    return ImportResult(name, tuple(import_split(name, split, out, data, download) for split in splits))
