"""Whether learning widths brings anything: closed form alone against learned widths among the candidates.

    python benchmarks/bench_learned.py --project FOLDER [--shares 50% 33%] [--seeds 0 1 2] [--images 20000]

Budgets are shares of the multiply-accumulates, so no clock decides, and every cell is a run of `wdp-edge prune` kept in
--out: a stopped comparison goes on. Both see equally many images in all. Without training, what the search looks at
goes to the refit where nothing is learned; with training, to recovery.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.io.files import read_object, write_json, write_text
from wdp_edge.io.plain import read_as
from wdp_edge.pruning.prune import prune
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import MANIFEST, Learned, Selected


@dataclass(frozen=True)
class Variant:
    """learns: learned widths are candidates, too. trains: the shrunk model is fine-tuned."""

    learns: bool
    trains: bool

    @property
    def name(self) -> str:
        return f"{'learned' if self.learns else 'closed'}{'-trained' if self.trains else ''}"


VARIANTS = tuple(Variant(learns, trains) for trains in (False, True) for learns in (False, True))


@dataclass(frozen=True)
class Cell:
    """accuracy: of the shipped file on validation images. divergence: of the chosen candidate, on held-back ones.
    chosen: its name. seconds: of all stages. reached: whether the search got to its budget. kept: the least and the
    largest share of a sub-layer that it learned to keep."""

    share: str
    seed: int
    variant: Variant
    accuracy: float
    divergence: float
    chosen: str
    seconds: float
    reached: bool | None = None
    kept: tuple[float, float] | None = None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, required=True, help="a folder with wdp-edge.toml")
    parser.add_argument("--out", type=Path, default=Path("runs/learned"))
    parser.add_argument("--shares", nargs="+", default=["50%", "33%"], help="of the multiply-accumulates")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=20_000, help="for learning and recovery together")
    parser.add_argument("--no-training", action="store_true", help="only without recovery")
    return parser.parse_args()


def recipe_for(recipe: Recipe, variant: Variant, share: str, seed: int, images: int, out: Path) -> Recipe:
    """The recipe of one cell. All variants with training see `images` besides the refit's, all others as many as
    learning takes of them."""
    own, searched = recipe.prune, round(recipe.prune.learn.share * images)
    learn = replace(own.learn, share=0.0 if not variant.learns else own.learn.share if variant.trains else 1.0)
    seen = images if variant.trains else searched if variant.learns else 0
    more = 0 if variant.trains or variant.learns else searched
    refit = replace(own.compensate, images=own.compensate.images + more)
    cell = replace(
        own, latency_budget="", macs_budget=share, epochs=0, images=seen, seed=seed, learn=learn, compensate=refit
    )
    return replace(recipe, prune=replace(cell, out=str(out)))


def cell_of(share: str, seed: int, variant: Variant, result: PruneResult) -> Cell:
    """What a finished run says."""
    if result.shipped.accuracy is None:
        raise SystemExit("error: the validation images have no labels, so there is no accuracy to compare")
    stages = result.run / "stages"
    chosen = next(c for c in read_as(stages / "select.json", Selected).candidates if c.chosen)
    seconds = read_object(result.run / MANIFEST)["seconds"]
    found = Cell(
        share, seed, variant, result.shipped.accuracy, chosen.divergence, chosen.name, round(sum(seconds.values()), 1)
    )
    if not (stages / "learn.json").exists():
        return found
    learned = read_as(stages / "learn.json", Learned)
    ratios = [*learned.keep_heads, *learned.keep_hidden, *learned.keep_channels]
    return replace(found, reached=learned.reached, kept=(min(ratios), max(ratios)))


def gains(cells: Sequence[Cell], share: str, trains: bool) -> list[float]:
    """Points that learning gains, by seed; of the seeds that have both."""
    accuracy = {(c.variant.learns, c.seed): c.accuracy for c in cells if (c.share, c.variant.trains) == (share, trains)}
    seeds = sorted(seed for learns, seed in accuracy if learns and (False, seed) in accuracy)
    return [100 * (accuracy[True, seed] - accuracy[False, seed]) for seed in seeds]


def tables(cells: Sequence[Cell]) -> str:
    """Every cell, and below what learning gains, paired by seed."""
    lines = ["| MACs | variant | seed | accuracy | divergence | chosen | search | keeps | time |", "|" + " --- |" * 9]
    for c in sorted(cells, key=lambda c: (c.share, c.variant.trains, c.variant.learns, c.seed)):
        search = "" if c.reached is None else "at its budget" if c.reached else "above its budget"
        keeps = "" if c.kept is None else f"{c.kept[0]:.0%} to {c.kept[1]:.0%}"
        figures = f"{c.accuracy:.2%} | {c.divergence:.4f} | {c.chosen} | {search} | {keeps} | {c.seconds:.0f} s"
        lines.append(f"| {c.share} | {c.variant.name} | {c.seed} | {figures} |")
    lines += ["", "| MACs | | learning gains | by seed |", "| --- | --- | --- | --- |"]
    for share in sorted({c.share for c in cells}):
        for trains in (False, True):
            if found := gains(cells, share, trains):
                spread = f" ± {stdev(found):.2f}" if len(found) > 1 else ""
                each = ", ".join(f"{gain:+.2f}" for gain in found)
                what = "trained" if trains else "untrained"
                lines.append(f"| {share} | {what} | {mean(found):+.2f}{spread} points | {each} |")
    return "\n".join(lines)


def main() -> None:
    """Every missing cell, then the tables."""
    args = arguments()
    progress.use(progress.Bars())
    recipe, cells = absolute_paths(load_recipe(args.project / RECIPE_FILE)), list[Cell]()
    for seed in args.seeds:
        for share in args.shares:
            for variant in VARIANTS:
                if variant.trains and args.no_training:
                    continue
                out = (args.out / f"{share.rstrip('%')}-{variant.name}-{seed}").absolute()
                progress.say(f"== {share}, {variant.name}, seed {seed}")
                result = prune(recipe_for(recipe, variant, share, seed, args.images, out))
                cells.append(cell_of(share, seed, variant, result))
                write_json(args.out / "cells.json", {"version": 1, "cells": cells})
                write_text(args.out / "tables.md", tables(cells) + "\n")
    print(tables(cells))


if __name__ == "__main__":
    main()
