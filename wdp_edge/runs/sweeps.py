"""Runs of one model with several budgets, targets or devices, kept together: which they are, and what each gave."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from wdp_edge.config.budgets import budget_setting, budget_texts, budget_word, with_budget
from wdp_edge.config.recipe import PruneRecipe, Recipe
from wdp_edge.config.values import split_list
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_json
from wdp_edge.io.plain import read_as
from wdp_edge.runs.figures import BudgetFigures
from wdp_edge.runs.places import project_of, read_result
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.run import checkpoint_facts, default_path, run_path, settings_digest
from wdp_edge.runs.shared import without_goal
from wdp_edge.runs.stages import MANIFEST, RESULT

SWEEP: Final = "sweep.json"
SWEEP_VERSION: Final = 1
# A folder in the sweep's, or beside it: a damaged file must not lead anywhere else.
_RUN = re.compile(r"(\.\./)?[\w-][\w.-]*")


@dataclass(frozen=True)
class Member:
    """One run of a sweep. run: its folder, as seen from the sweep's. error: why there is no result; "" otherwise.

    target, device: "" in sweeps of before there were several: those of its other runs.
    """

    budget: str
    run: str
    error: str = ""
    target: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        if not _RUN.fullmatch(self.run):
            raise InputError(
                f"A sweep has its runs inside or beside it, not in '{self.run}'.",
                "Restore the file or start a new sweep.",
            )


@dataclass(frozen=True)
class Sweep:
    """`sweep.json`: all runs that were asked for, from the first command on. origin: see `origin_of`."""

    origin: str
    members: tuple[Member, ...]
    version: Literal[1] = SWEEP_VERSION

    def __post_init__(self) -> None:
        runs = [member.run for member in self.members]
        if not runs or len(set(runs)) < len(runs):
            raise InputError(f"A sweep has each run once, not {runs}.", "Restore the file or start a new sweep.")


@dataclass(frozen=True)
class SweepEntry:
    """result: None where the budget is out of reach, for the reason in `error`."""

    budget: str
    run: Path
    result: PruneResult | None
    error: str = ""
    target: str = ""
    device: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Target and device."""
        return self.target, self.device


@dataclass(frozen=True)
class SweepResult:
    """`wdp_edge.sweep`: a run for each budget on each target and device, there the fastest first. folder: where
    `sweep.json` and the report are."""

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

    @property
    def places(self) -> list[tuple[str, str]]:
        """Targets and devices, in the order of the entries."""
        return list(dict.fromkeys(entry.place for entry in self.entries))


def names_several(prune: PruneRecipe) -> tuple[str, str] | None:
    """The first of budget, target and device that names several, in words and its text; None for a single run."""
    named = (("budget", getattr(prune, budget_setting(prune))), ("target", prune.target), ("device", prune.device))
    return next(((what, text) for what, text in named if "," in text), None)


def single_recipes(recipe: Recipe) -> list[Recipe]:
    """The recipe for each of its budgets, targets and devices alone. prune.out becomes the sweep's folder,
    with the runs inside."""
    own = recipe.prune
    lists = [split_list(own.target), split_list(own.device), budget_texts(own)]
    return [_single(recipe, *one) for one in itertools.product(*lists)]


def _single(recipe: Recipe, target: str, device: str, budget: str) -> Recipe:
    one = with_budget(recipe.prune, budget)
    words = [budget_word(one), target, *([] if device == "local" else [device])]
    folder = re.sub(r"[^\w.-]+", "_", "-".join(words))
    out = str(Path(recipe.prune.out) / folder) if recipe.prune.out else ""
    return replace(recipe, prune=replace(one, target=target, device=device, out=out))


def sweep_path(recipe: Recipe) -> Path:
    """prune.out, or runs/<model>-budgets-<precision>-<digest>: the same for all budgets, targets and devices."""
    if recipe.prune.out:
        return Path(recipe.prune.out)
    return default_path(without_goal(recipe), "budgets", recipe.prune.precision)


def origin_of(recipe: Recipe) -> str:
    """What all runs of a sweep have in common: the settings, and the content of the checkpoint."""
    settings = settings_digest(without_goal(recipe), project_of(sweep_path(recipe)))
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
    named = {member.run for member in members}
    before = [member for member in known_members(folder, origin) if member.run not in named]
    write_json(folder / SWEEP, Sweep(origin, (*before, *members)))


def read_sweep(folder: Path) -> SweepResult:
    """What the runs of a sweep gave; one that was removed or is not finished is left out.

    Raises InputError when `sweep.json` is missing or damaged, or no run of it is there.
    """
    members = read_as(folder / SWEEP, Sweep).members
    entries = [entry for member in members if (entry := _entry(folder, member)) is not None]
    if not entries:
        raise InputError(
            f"No run of {folder / SWEEP} is there and finished.", "Give the `wdp-edge prune` command again."
        )
    own = next((entry.place for entry in entries if entry.result), ("", ""))
    placed = [entry if entry.target else replace(entry, target=own[0], device=own[1]) for entry in entries]
    return SweepResult(folder, sorted(placed, key=lambda entry: (entry.place, _speed(entry))))


def _entry(folder: Path, member: Member) -> SweepEntry | None:
    run = Path(os.path.normpath(folder / member.run))
    if member.error:
        return SweepEntry(member.budget, run, None, member.error, member.target, member.device)
    if not (run / RESULT).exists():
        return None
    result = read_result(run)
    return SweepEntry(member.budget, run, result, "", member.target or result.target, member.device or result.device)


def _speed(entry: SweepEntry) -> float:
    if entry.result is None:
        return 0.0
    budget = entry.result.budget
    return float(budget.counted.limit) if budget.counted else budget.latency_ms or 0.0


def siblings_of(recipe: Recipe, origin: str) -> list[Path]:
    """Folders of the runs of this sweep, and of it before."""
    folder = sweep_path(recipe)
    before = [Path(os.path.normpath(folder / member.run)) for member in known_members(folder, origin)]
    paths = [*(run_path(one) for one in single_recipes(recipe)), *before]
    return [path for path in dict.fromkeys(paths) if (path / MANIFEST).exists()]
