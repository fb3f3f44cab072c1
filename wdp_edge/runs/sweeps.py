"""Runs of one model with several budgets, kept together: which they are, and what each gave."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from wdp_edge.config.recipe import Recipe
from wdp_edge.config.values import split_budgets
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as
from wdp_edge.runs.places import project_of, read_result
from wdp_edge.runs.results import BudgetFigures, PruneResult
from wdp_edge.runs.run import checkpoint_facts, default_path, run_path, settings_digest
from wdp_edge.runs.shared import without_budget
from wdp_edge.runs.stages import MANIFEST, RESULT

SWEEP: Final = "sweep.json"
SWEEP_VERSION: Final = 1
# A folder in the sweep's, or beside it: a damaged file must not lead anywhere else.
_RUN = re.compile(r"(\.\./)?[\w-][\w.-]*")


@dataclass(frozen=True)
class Member:
    """One budget of a sweep. run: its folder, as seen from the sweep's. error: why there is no result; "" otherwise."""

    budget: str
    run: str
    error: str = ""

    def __post_init__(self) -> None:
        if not _RUN.fullmatch(self.run):
            raise InputError(
                f"A sweep has its runs inside or beside it, not in '{self.run}'.",
                "Restore the file or start a new sweep.",
            )


@dataclass(frozen=True)
class Sweep:
    """`sweep.json`: all budgets that were asked for, from the first command on. origin: see `origin_of`."""

    origin: str
    members: tuple[Member, ...]
    version: Literal[1] = SWEEP_VERSION

    def __post_init__(self) -> None:
        names = [member.budget for member in self.members]
        if not names or len(set(names)) < len(names):
            raise InputError(f"A sweep has each budget once, not {names}.", "Restore the file or start a new sweep.")


@dataclass(frozen=True)
class SweepEntry:
    """result: None where the budget is out of reach, for the reason in `error`."""

    budget: str
    run: Path
    result: PruneResult | None
    error: str = ""


@dataclass(frozen=True)
class SweepResult:
    """`wdp_edge.sweep`: one run for each budget, the fastest first. folder: where `sweep.json` and the report are."""

    folder: Path
    entries: list[SweepEntry]
    version: Literal[1] = SWEEP_VERSION

    @property
    def results(self) -> list[PruneResult]:
        return [entry.result for entry in self.entries if entry.result is not None]

    @property
    def budgets(self) -> list[BudgetFigures]:
        return [result.budget for result in self.results]

    @property
    def met(self) -> bool:
        """Whether every file is inside its budget and close to its model."""
        return all(result.budget.met and result.verified for result in self.results)

    @property
    def unjudged(self) -> list[SweepEntry]:
        """Budgets that nothing could be made for."""
        return [entry for entry in self.entries if entry.result is None]


def single_recipes(recipe: Recipe) -> list[Recipe]:
    """The recipe for each of its budgets alone. prune.out becomes the sweep's folder, with the runs inside."""
    return [_single(recipe, budget) for budget in split_budgets(recipe.prune.latency_budget)]


def _single(recipe: Recipe, budget: str) -> Recipe:
    folder = re.sub(r"[^\w.-]+", "", budget.replace("%", "pct"))
    out = str(Path(recipe.prune.out) / folder) if recipe.prune.out else ""
    return replace(recipe, prune=replace(recipe.prune, latency_budget=budget, out=out))


def sweep_path(recipe: Recipe) -> Path:
    """prune.out, or runs/<model>-budgets-<precision>-<digest>: the same for every list of budgets."""
    if recipe.prune.out:
        return Path(recipe.prune.out)
    return default_path(without_budget(recipe), "budgets", recipe.prune.precision)


def origin_of(recipe: Recipe) -> str:
    """What all budgets of a sweep have in common: the settings, and the content of the checkpoint."""
    settings = settings_digest(without_budget(recipe), project_of(sweep_path(recipe)))
    return f"{settings}-{checkpoint_facts(recipe)['checkpoint']['sha256'][:12]}"


def known_members(folder: Path, origin: str) -> tuple[Member, ...]:
    """Of a sweep that was begun before.

    Raises InputError when its file is damaged or of another origin, or the folder is that of a single run.
    """
    if (folder / MANIFEST).exists():
        raise InputError(
            f"{folder} is the run of a single budget; several need a folder of their own.",
            "Choose another folder: out in [prune].",
            {"--out": "Choose another folder with --out."},
        )
    if not (folder / SWEEP).exists():
        return ()
    known = read_as(folder / SWEEP, Sweep)
    if known.origin != origin:
        raise InputError(
            f"{folder} holds the budgets of another recipe or checkpoint.",
            "Choose another folder: out in [prune].",
            {"--out": "Choose another folder with --out, or give the same settings again."},
        )
    return known.members


def write_sweep(folder: Path, origin: str, members: Sequence[Member]) -> None:
    """Those that were known before stay, unless they are named again. Raises InputError as `known_members` does."""
    named = {member.budget for member in members}
    before = [member for member in known_members(folder, origin) if member.budget not in named]
    write_json(folder / SWEEP, Sweep(origin, (*before, *members)))


def read_sweep(folder: Path) -> SweepResult:
    """What the runs of a sweep gave; one that was removed or is not finished is left out.

    Raises InputError when `sweep.json` is missing or damaged, or no run of it is there.
    """
    entries = []
    for member in read_as(folder / SWEEP, Sweep).members:
        run = Path(os.path.normpath(folder / member.run))
        if member.error or (run / RESULT).exists():
            entries.append(SweepEntry(member.budget, run, None if member.error else read_result(run), member.error))
    if not entries:
        raise InputError(
            f"No run of {folder / SWEEP} is there and finished.", "Give the `wdp-edge prune` command again."
        )
    return SweepResult(folder, sorted(entries, key=_speed))


def _speed(entry: SweepEntry) -> float:
    return entry.result.budget.latency_ms if entry.result else 0.0


def siblings_of(recipe: Recipe, origin: str) -> list[Path]:
    """Folders of runs with another budget: those of this sweep, and of it before."""
    folder = sweep_path(recipe)
    before = [Path(os.path.normpath(folder / member.run)) for member in known_members(folder, origin)]
    paths = [*(run_path(one) for one in single_recipes(recipe)), *before]
    return [path for path in dict.fromkeys(paths) if (path / MANIFEST).exists()]
