"""A run directory read into typed parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from wdp_edge.config.recipe import Recipe
from wdp_edge.cost.table import LatencyTable
from wdp_edge.errors import InputError
from wdp_edge.io.files import read_json
from wdp_edge.io.plain import from_plain, read_as
from wdp_edge.models.structure import Structure
from wdp_edge.protocols.device import DeviceInfo
from wdp_edge.runs.places import read_result, run_recipe
from wdp_edge.runs.results import OperatorProfiles, PruneResult
from wdp_edge.runs.stages import MANIFEST, OPERATORS, RECIPE, RESULT, Learned, Measured, Recovered, Selected, Verified

T = TypeVar("T")

STAGES = "stages"


@dataclass(frozen=True)
class DataFigures:
    """One image folder of a run."""

    images: int = 0
    classes: int = 0
    fingerprint: str = ""
    contents: str = ""


@dataclass(frozen=True)
class FileFigures:
    """One file of a run."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What the report shows of manifest.json."""

    command: list[str] = field(default_factory=list)
    started: str = ""
    finished: str = ""
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    device: DeviceInfo | None = None
    data: dict[str, DataFigures] = field(default_factory=dict)
    artifacts: dict[str, FileFigures] = field(default_factory=dict)
    recipe_digest: str = ""


@dataclass(frozen=True)
class DenseFigures:
    """What the report shows of the dense model's stage."""

    structure: Structure


@dataclass(frozen=True)
class Widths:
    """What the picture of widths shows.

    learned_heads, learned_hidden, learned_channels: keep ratios per block, or empty.
    head_dims: channels of each block's heads, or empty where they are the dense model's.
    """

    dense: Structure
    heads: Sequence[int]
    hidden: Sequence[int]
    learned_heads: Sequence[float] = ()
    learned_hidden: Sequence[float] = ()
    head_dims: Sequence[int] = ()
    learned_channels: Sequence[float] = ()

    @property
    def exit(self) -> int:
        return len(self.heads)


@dataclass(frozen=True)
class Record:
    """A run. Stages that it has not, or not yet, are None."""

    folder: Path
    result: PruneResult
    recipe: Recipe
    recipe_text: str
    manifest: Manifest
    dense: DenseFigures | None
    table: LatencyTable | None
    learned: Learned | None
    selected: Selected | None
    recovered: Recovered | None
    measured: Measured | None
    verified: Verified | None
    operators: OperatorProfiles | None = None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def model(self) -> str:
        return self.recipe.model.name or "model"

    @property
    def training_off(self) -> bool:
        return self.recipe.prune.images == 0 and self.recipe.prune.epochs == 0

    @property
    def widths(self) -> Widths | None:
        """What the picture of widths needs; None without the dense or the select stage."""
        if self.dense is None or self.selected is None:
            return None
        return Widths(
            self.dense.structure,
            [len(kept) for kept in self.selected.kept_heads],
            [len(kept) for kept in self.selected.kept_hidden],
            self.learned.keep_heads if self.learned else (),
            self.learned.keep_hidden if self.learned else (),
            self.selected.head_dims,
            self.learned.keep_channels if self.learned else (),
        )


def read_record(run: Path) -> Record:
    """Everything the report needs from a run directory.

    Raises InputError when it is not one, has no result yet, or holds a damaged file.
    """
    if not run.is_dir():
        raise InputError(f"There is no run {run}.", "Give the folder that `wdp-edge prune` wrote.")
    if not (run / RESULT).is_file():
        raise InputError(
            f"{run} holds no {RESULT}: the run is not finished, or the folder is not a run.",
            "Run the same `wdp-edge prune` command again; it goes on where it stopped.",
        )
    stages = run / STAGES
    _check_stages(stages)
    has_recipe = (run / RECIPE).is_file()
    return Record(
        folder=run,
        result=read_result(run),
        recipe=run_recipe(run) if has_recipe else Recipe(),
        recipe_text=(run / RECIPE).read_text(encoding="utf-8") if has_recipe else "",
        manifest=_part(run / MANIFEST, Manifest) or Manifest(),
        dense=_part(stages / "dense.json", DenseFigures),
        table=_stage(stages / "table.json", LatencyTable),
        learned=_stage(stages / "learn.json", Learned),
        selected=_stage(stages / "select.json", Selected),
        recovered=_stage(stages / "recover.json", Recovered),
        measured=_stage(_measured_file(stages, run), Measured),
        verified=_stage(stages / "verify.json", Verified),
        operators=_stage(run / OPERATORS, OperatorProfiles),
    )


def _check_stages(stages: Path) -> None:
    """Raises InputError for a damaged record, also of those that the page does not show."""
    for path in sorted(stages.glob("*.json")):
        data = read_json(path)
        if path.stem.partition("-")[0] == "measure":
            from_plain(Measured, data, str(path))


def _measured_file(stages: Path, run: Path) -> Path:
    """The timing of the file that ships: a file that was cut again has a number, and a dense one its own name."""
    result = read_result(run)
    if not result.pruned:
        return stages / "measure-dense.json"
    stem = result.shipped.path.stem if result.shipped.path else "model"
    numbered = stages / f"{stem.replace('model', 'measure', 1)}.json"
    return numbered if numbered.is_file() else stages / "measure.json"


def _stage(path: Path, cls: type[T]) -> T | None:
    return read_as(path, cls) if path.is_file() else None


def _part(path: Path, cls: type[T]) -> T | None:
    """The fields of `cls` from a JSON object that may hold more."""
    if not path.is_file():
        return None
    data = read_json(path)
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return from_plain(cls, {k: v for k, v in data.items() if k in known} if isinstance(data, dict) else data, str(path))
