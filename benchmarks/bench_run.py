"""Where the time of a run goes: seconds and share of every stage, and of the pieces of work inside them.

    python benchmarks/bench_run.py [--project FOLDER] [--target NAME] [--precision NAME]

One `prune --images 0` (another number with --images) to half of the dense latency, with an empty cache: no table, no
outputs and no statistics of earlier runs. Without --project it is the demo's: digits, trained here first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.demo.run import SHORT, demo_project
from wdp_edge.devices.local import usable_cores
from wdp_edge.devices.processor import this_processor
from wdp_edge.io.files import read_object
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import MANIFEST


class Stopwatch:
    """Shows what another reporter shows, and adds up the seconds of every piece of work by its title.

    A piece that runs inside another one counts for itself and not for the other.
    """

    def __init__(self, shown: progress.Reporter) -> None:
        self.shown = shown
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def say(self, text: str) -> None:
        self.shown.say(text)

    def stage(self, title: str, place: progress.Position) -> None:
        self.shown.stage(title, place)

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[progress.Advance]:
        self._inside.append(0.0)
        began = time.monotonic()
        try:
            with self.shown.task(title, total) as advance:
                yield advance
        finally:
            taken = time.monotonic() - began
            self.seconds[title] += taken - self._inside.pop()
            if self._inside:
                self._inside[-1] += taken


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, default=Path("build/run/demo"), help="made where it is not there")
    parser.add_argument("--target", default=None)
    parser.add_argument("--precision", default=None)
    parser.add_argument("--budget", default="50%")
    parser.add_argument("--images", type=int, default=0, help="training images of the run")
    return parser.parse_args()


def recipe_of(args: argparse.Namespace, out: Path) -> Recipe:
    """The project's recipe for one run in `out`; the demo's project where there is none."""
    if not (args.project / RECIPE_FILE).exists():
        demo_project(args.project, SHORT)
    recipe = absolute_paths(load_recipe(args.project / RECIPE_FILE))
    prune = recipe.prune
    own = replace(
        prune,
        target=args.target or prune.target,
        precision=args.precision or prune.precision,
        latency_budget=args.budget,
        images=args.images,
        epochs=0.0,
        out=str(out),
    )
    return replace(recipe, prune=own)


def main() -> None:
    """The run, then its tables."""
    args = arguments()
    watch = Stopwatch(progress.Bars())
    with tempfile.TemporaryDirectory() as name:
        os.environ["WDP_EDGE_CACHE"] = str(Path(name) / "cache")
        recipe = recipe_of(args, Path(name) / "run")
        progress.use(watch)
        began = time.monotonic()
        result = prune(recipe)
        whole = time.monotonic() - began
        print(f"{recipe.model.name} {dict(recipe.model.args)}")
        show(result, read_object(Path(recipe.prune.out) / MANIFEST)["seconds"], watch.seconds, whole)


def show(result: PruneResult, stages: dict[str, float], pieces: dict[str, float], whole: float) -> None:
    """Two tables: stages, and pieces of work of all stages."""
    print(f"{result.target} {result.precision}, {this_processor()}, {usable_cores()} cores: {whole:.0f} s")
    print(f"dense {result.dense.accuracy}, shipped {result.shipped.accuracy}, {result.budget.ratio:.1%} of the budget")
    table("stage", {**stages, "outside the stages": whole - sum(stages.values())}, whole)
    print()
    table("piece of work", dict(sorted(pieces.items(), key=lambda item: -item[1])), whole)


def table(title: str, seconds: dict[str, float], whole: float) -> None:
    print(f"| {title} | s | share |")
    print("| --- | --- | --- |")
    for name, taken in seconds.items():
        if taken >= 0.005 * whole:
            print(f"| {name} | {taken:.1f} | {taken / whole:.1%} |")
    print(f"| together | {sum(seconds.values()):.1f} | |")


if __name__ == "__main__":
    main()
