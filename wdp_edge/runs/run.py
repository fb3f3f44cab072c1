"""A run directory: typed stage results, a lock, a manifest; killed at any moment, it goes on where it was."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from filelock import FileLock, Timeout

from wdp_edge import progress
from wdp_edge.config.budgets import budget_word
from wdp_edge.config.file import absolute_paths, change_paths, dump_recipe
from wdp_edge.config.recipe import Recipe, TimingRecipe
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import (
    disk_error,
    read_json,
    read_object,
    remove,
    sha256,
    size_of,
    to_plain,
    write_json,
    write_text,
)
from wdp_edge.io.plain import from_plain
from wdp_edge.models.weight_folders import weight_files
from wdp_edge.protocols.target import Artifact
from wdp_edge.protocols.task import ALPHABETICAL
from wdp_edge.runs.places import (
    CONTENTS,
    RUNS,
    artifact_in,
    places_of,
    project_of,
    seen_from,
    stored_recipe,
)
from wdp_edge.runs.stages import MANIFEST, RECIPE, RESULT
from wdp_edge.workers.parallel import broadcast, wait, world

T = TypeVar("T")
RUN_VERSION = 1


class Run:
    """One run's folder. A context manager: inside, no other process works on it.

    Of the processes that torchrun starts, the first holds the folder and writes; the others read what it has written.

    Raises InputError when the folder belongs to another recipe or is no run folder, SetupError when another process
    holds it or the disk is full.
    """

    def __init__(self, path: Path, recipe: Recipe, command: Sequence[str] = ()) -> None:
        self.path, self.recipe, self.command = path, recipe, list(command)

    def __enter__(self) -> Run:
        if world().leads:
            self._take()
        wait()
        return self

    def _take(self) -> None:
        self._check_owner()
        try:
            (self.path / "stages").mkdir(parents=True, exist_ok=True)
            # The system drops this lock when the process dies, however it dies.
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise SetupError(
                f"Another process works on {self.path}.",
                "Wait for it.",
                {"--out": "Wait for it or choose another folder with --out."},
            ) from error
        except OSError as error:
            raise disk_error(error, self.path) from error
        for unfinished in list(self.path.rglob(".*.tmp")):
            # What a killed process was writing; nobody else writes while we hold the lock.
            remove(unfinished)
        if not (self.path / MANIFEST).exists():
            self._write_recipe()
            self.update_manifest(started=now(), command=self.command, seed=self.recipe.prune.seed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                wait()
        finally:
            if world().leads:
                self._lock.release()

    def _check_owner(self) -> None:
        if not self.path.exists():
            return
        manifest_path = self.path / MANIFEST
        if not manifest_path.exists():
            leftovers = {".lock", "stages", RECIPE}
            if not self.path.is_dir() or any(
                p.name not in leftovers and p.suffix != ".tmp" for p in self.path.iterdir()
            ):
                raise InputError(
                    f"{self.path} exists and is not a run folder.",
                    "Choose another folder: out in [prune].",
                    {"--out": "Choose another folder with --out."},
                )
            return
        if not self._is_of(read_object(manifest_path)):
            raise InputError(
                f"{self.path} is the run of another recipe (its own is in {self.path / RECIPE}).",
                "Choose another folder, or give the same settings again.",
                {"--out": "Choose another folder with --out, or give the same settings again."},
            )

    def _is_of(self, manifest: dict[str, Any]) -> bool:
        """Checkpoint and images may lie elsewhere: `check_checkpoint` and `check_images` know them by content."""
        if "settings_digest" in manifest:
            return bool(manifest["settings_digest"] == settings_digest(self.recipe, project_of(self.path)))
        return manifest.get("recipe_digest") == _absolute_digest(self.recipe)

    def note_places(self) -> None:
        """Remembers where everything is that the recipe names, once it is known to be what the run began with."""
        known = self.manifest()
        if "checkpoint" in known and known.get("places") != places_of(self.recipe):
            self._write_recipe()
            self.update_manifest(**self._digests(), places=places_of(self.recipe))

    def _digests(self) -> dict[str, str]:
        project = project_of(self.path)
        return {
            "recipe_digest": recipe_digest(self.recipe, project),
            "settings_digest": settings_digest(self.recipe, project),
        }

    def _write_recipe(self) -> None:
        write_text(self.path / RECIPE, dump_recipe(stored_recipe(self.recipe, self.path), comments=False))

    def manifest(self) -> dict[str, Any]:
        path = self.path / MANIFEST
        return read_object(path) if path.exists() else {}

    def update_manifest(self, **values: Any) -> None:
        known = self.manifest() or {"version": RUN_VERSION, **self._digests()}
        write_json(self.path / MANIFEST, {**known, **to_plain(values)})

    def add_artifact(self, path: Path) -> None:
        """Records size and SHA-256 of a file in the run folder."""
        artifacts = recorded_artifacts(self.path)
        name = path.relative_to(self.path).as_posix()
        artifacts[name] = {"sha256": sha256(path), "bytes": size_of(path)}
        self.update_manifest(artifacts=artifacts)

    def stage(self, name: str, kind: type[T], compute: Callable[[], T], together: bool = False) -> T:
        """The stage's result: read back when it is there, else computed and written.

        With several processes the first one computes while the others wait for its result. together: all compute.
        """
        path, leads = self.path / "stages" / f"{name}.json", world().leads
        if self.done(name):
            progress.passed(name, self.seconds().get(name, 0.0))
            return self._here(from_plain(kind, broadcast(read_json(path) if leads else None), str(path)))
        began = time.monotonic()
        with progress.stage(name):
            result = compute() if leads or together else None
        if leads:
            write_json(path, result)
            self.update_manifest(seconds={**self.seconds(), name: round(time.monotonic() - began, 2)})
        told = broadcast(result)
        return told if leads else self._here(from_plain(kind, told, str(path)))

    def seconds(self) -> dict[str, float]:
        """How long each stage took that is done, the last time that it was begun; none of runs of before."""
        return dict(self.manifest().get("seconds", {}))

    def _here(self, result: T) -> T:
        """A stage's result, with its file where the run is now."""
        found: Any = result
        if isinstance(result, Artifact):
            found = replace(result, path=artifact_in(self.path, result.path))
        return cast(T, found)

    def done(self, name: str) -> bool:
        """The same answer in every process: the first one's."""
        return bool(self.has(f"stages/{name}.json"))

    def has(self, file: str) -> bool:
        """Whether the first process finds this file, named relative to the run."""
        return bool(broadcast((self.path / file).exists()))


def recorded_artifacts(run: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file of a run, by its path in the folder, as the manifest has them.

    Raises InputError for a manifest that is damaged.
    """
    path = run / MANIFEST
    found = read_object(path).get("artifacts", {}) if path.exists() else {}
    if not isinstance(found, dict) or not all(isinstance(facts, dict) for facts in found.values()):
        raise InputError(
            f"{path} is damaged: it does not say which files it has.", "Restore the file or start a new run."
        )
    return found


def checkpoint_facts(recipe: Recipe) -> dict[str, Any]:
    """What a manifest says of the checkpoint: the SHA-256 of its bytes, or of the digests of its files."""
    digests = [sha256(path) for path in weight_files(Path(recipe.model.checkpoint))]
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"checkpoint": {"sha256": whole}}


def check_checkpoint(recipe: Recipe, run: Run) -> None:
    """Raises InputError when the checkpoint is not the one that the run began with: trainers write to one path.

    Runs that began before it was recorded are taken as they are.
    """
    known = run.manifest().get("checkpoint")
    if known is not None and known["sha256"] != checkpoint_facts(recipe)["checkpoint"]["sha256"]:
        raise InputError(
            f"The checkpoint {recipe.model.checkpoint} has changed since {run.path} began.",
            "Restore it, or move that folder away and start anew.",
            {"--out": "Restore it, or start a new run with --out."},
        )


def check_images(fingerprints: Mapping[str, Mapping[str, Any]], run: Run) -> None:
    """Raises InputError when the images are not those that the run began with.

    fingerprints: of "train" and "val", with their fingerprint and, which older runs lack, that of their contents.
    """
    known = run.manifest().get("data", {})
    for name, facts in fingerprints.items():
        before = known.get(name, {})
        if any(before[kind] != facts[kind] for kind in ("fingerprint", "contents") if kind in before):
            raise InputError(
                f"The {name} images have changed since {run.path} began.",
                "Restore them, or move that folder away and start anew.",
                {"--out": "Restore them, or start a new run with --out."},
            )


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def recipe_digest(recipe: Recipe, project: Path = Path()) -> str:
    """First 12 hex digits of the SHA-256 of all settings that decide the result; of paths, as the project names them.

    Not the run's folder, the workers, or what learning runs on: a run that ran out of memory goes on with smaller
    pieces, and one that began on a GPU on a CPU.
    """
    return _digest(seen_from(project, recipe))


def settings_digest(recipe: Recipe, project: Path = Path()) -> str:
    """The same, wherever that lies which a run knows by content."""
    return _digest(change_paths(seen_from(project, recipe), lambda key, value: "-" if key in CONTENTS else value))


def _absolute_digest(recipe: Recipe) -> str:
    """What runs were known by before they could be moved."""
    return _digest(absolute_paths(recipe))


def _digest(recipe: Recipe) -> str:
    # As the run stores and reads it, so that the stored one has the same digest: 0 read as 0.0.
    recipe = from_plain(Recipe, to_plain(recipe))
    plain = to_plain(replace(recipe, prune=replace(recipe.prune, out=""), data=replace(recipe.data, workers=0)))
    for table in ("verify", "budget"):  # they decide what is said of the result, not the result
        plain.pop(table)
    plain["prune"].pop("accept")
    plain["prune"].pop("compute")
    # Runs that began before there were these settings go on.
    if plain["model"]["task"] == "classify":
        plain["model"].pop("task")
    if recipe.data.class_order in ("", ALPHABETICAL):
        plain["data"].pop("class_order")
    if not recipe.data.preprocess:
        plain["data"].pop("preprocess")
    for name in ("head_channels", "head_blocks", "checkpoint_key", "checkpoint_prefix"):
        if not plain["model"][name]:
            plain["model"].pop(name)
    for name in ("force", "macs_budget", "keep"):
        if not plain["prune"][name]:
            plain["prune"].pop(name)
    for table, name in (("recover", "rounding"), ("select", "exit"), ("learn", "features")):
        if not plain["prune"][table][name]:
            plain["prune"][table].pop(name)
    if recipe.prune.timing == TimingRecipe():
        plain["prune"].pop("timing")
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def run_path(recipe: Recipe) -> Path:
    """Where this recipe runs: prune.out, or runs/<model>-<budget>-<precision>-<digest>."""
    if recipe.prune.out:
        return Path(recipe.prune.out)
    return default_path(recipe, budget_word(recipe.prune), recipe.prune.precision)


def default_path(recipe: Recipe, *words: str) -> Path:
    """runs/<model>-<words>-<digest>: the recipe's run, also under the name that older versions gave it."""

    def named(digest: str) -> Path:
        return Path(RUNS) / re.sub(r"[^\w.-]+", "_", "-".join([recipe.model.name, *words, digest[:6]]))

    path, older = named(recipe_digest(recipe)), named(_absolute_digest(recipe))
    return older if (older / MANIFEST).exists() and not (path / MANIFEST).exists() else path


def latest_run(root: Path) -> Path:
    """The run below `root` (itself, or in its folder runs/) that was started or changed last.

    Raises InputError when there is none.
    """
    if (root / MANIFEST).exists():
        return root
    folder = root / "runs" if (root / "runs").is_dir() else root
    found = [p.parent for p in folder.glob(f"*/{MANIFEST}")]
    if not found:
        where = "this folder" if folder == Path() else str(folder)
        raise InputError(
            f"There is no run in {where}.",
            "Make one with: wdp-edge prune --latency-budget 50%, or with: wdp-edge export --dense",
        )
    return max(found, key=lambda p: (p / MANIFEST).stat().st_mtime)


def finished_run(path: Path) -> Path:
    """`path` when it holds a finished run. Raises InputError when it does not."""
    if not (path / MANIFEST).exists():
        raise InputError(f"{path} is not a run folder.", "Name a folder that `wdp-edge prune` made.")
    if not (path / RESULT).exists():
        raise InputError(f"The run in {path} is not finished.", "Give its `wdp-edge prune` command again.")
    return path
