"""Pruning methods side by side at the same measured latency.

    wdp-edge init …                                       # in a folder: model, checkpoint, images
    python benchmarks/bench_pruners.py --project FOLDER --images 20000
    python benchmarks/bench_pruners.py --quick            # handwritten digits, in minutes

Every method starts from the same checkpoint, sees the same number of images, has the same recovery, is exported by the
same adapter at the same precision, and all files of one share of the dense latency are timed in turn in one run. What
is done is kept in --out: a stopped comparison goes on, and a longer one only adds to it. Cells know the code and the
recipe that made them, and no table is drawn of cells that differ in these. With --tune each method first gets a rate
of learning and a weight of block outputs of its own, chosen by held-back training images.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from arena import methods, show
from arena.cells import Key, Store
from arena.origin import MixedOrigins, common, origin_of
from arena.play import ABLATIONS, NO_COMPENSATION, Plan, ablate, dense_cell, play, time_together, tuned
from arena.setting import Setting, refit_within
from arena.tune import SEED

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.demo.run import SHORT, demo_project
from wdp_edge.io.files import write_json, write_text

ALL = (methods.CONTROL, *methods.PEERS, methods.OURS)
VARIANTS = ((False, False), (True, False), (False, True), (True, True))
QUICK = ("uniform width", "TP Taylor, isomorphic", methods.OURS)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, help="a folder with wdp-edge.toml")
    parser.add_argument("--out", type=Path, default=Path("runs/pruners"))
    parser.add_argument("--precision", default="int8-dynamic")
    parser.add_argument("--images", type=int, default=20_000, help="training images in all, search and recovery")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5], help="of the dense latency, such as 0.5")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=list(ALL), choices=ALL, metavar="METHOD")
    cells = parser.add_mutually_exclusive_group()
    cells.add_argument("--no-training", action="store_true", help="only the cells that need no training")
    cells.add_argument("--only-training", action="store_true", help="only the cells that need training")
    parser.add_argument("--no-compensated", action="store_true", help="no cells of peers with our compensation")
    parser.add_argument(
        "--tune", action="store_true", help="first choose a learning rate and a weight of block outputs per method"
    )
    parser.add_argument("--ablation", action="store_true", help="ours with one part off at a time, at the first share")
    parser.add_argument("--quick", action="store_true", help="digits, few images, two peers")
    return parser.parse_args()


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The project's recipe; --quick makes a project first."""
    if args.quick:
        args.images, args.methods = SHORT.images, list(QUICK)
        demo_project(args.out / "digits", SHORT)
        args.project = args.out / "digits"
    elif args.project is None:
        raise SystemExit("error: name the project's folder with --project, or take --quick")
    recipe = absolute_paths(load_recipe(args.project / RECIPE_FILE))
    recipe = replace(recipe, prune=replace(recipe.prune, precision=args.precision))
    return refit_within(recipe, args.images)


def main() -> None:
    """Every missing cell, one interleaved timing for each share, then tables and picture."""
    args = arguments()
    progress.use(progress.Bars())
    recipe, store = recipe_of(args), Store(args.out)
    unwanted = {True} if args.no_training else {False} if args.only_training else set()
    variants = [v for v in VARIANTS if v[0] not in unwanted and not (v[1] and args.no_compensated)]
    plan = Plan(tuple(args.methods), tuple(args.shares), tuple(args.seeds), args.images, tuple(variants))
    refuse_mixed(store, recipe)
    if args.tune and not args.no_training:
        first = Setting(replace(recipe, prune=replace(recipe.prune, seed=SEED)), store.folder / "files")
        for method in plan.methods:
            tuned(first, store, method)
    for seed in plan.seeds:
        setting = Setting(replace(recipe, prune=replace(recipe.prune, seed=seed)), store.folder / "files")
        dense_cell(setting, store)
        for share in plan.shares:
            for method in plan.methods:
                if method != methods.CONTROL:
                    play(setting, store, plan, method, share, seed)
        if methods.CONTROL in plan.methods:
            play(setting, store, plan, methods.CONTROL, 1.0, seed)
        if args.ablation:
            images = 0 if args.no_training else plan.images
            ablate(setting, store, Key(methods.OURS, plan.shares[0], seed, images, True))
    for share in plan.shares:
        time_together(setting, store, [c for c in store.all() if c.share == share])
    cells = store.all()
    text = show.tables(cells, [*ABLATIONS, NO_COMPENSATION])
    write_text(args.out / "tables.md", text + "\n")
    write_json(args.out / "cells.json", {"version": 1, "cells": cells})
    show.picture(cells, args.out / "pruners.png")
    print(f"{recipe.model.name} {dict(recipe.model.args)}, {recipe.prune.target} {recipe.prune.precision}")
    print(text)


def refuse_mixed(store: Store, recipe: Recipe) -> None:
    """Ends the program before it makes cells that could not stand in a table with those that are there."""
    own, cells = origin_of(recipe), store.all()
    try:
        there = common(cells) if cells else own
    except MixedOrigins as error:
        raise SystemExit(f"error: {error}") from error
    if there != own:
        raise SystemExit(
            f"error: the cells in {store.folder} were made with code {there.code}, recipe {there.recipe}, and this is "
            f"code {own.code}, recipe {own.recipe}. Take another --out, or remove them."
        )


if __name__ == "__main__":
    main()
