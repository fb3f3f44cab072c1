"""Depth against width at the same measured latency: width only, depth only, and both.

    python benchmarks/bench_depth_width.py --project FOLDER

Width and both are `wdp-edge prune` without and with exits; depth only cuts the last blocks and fits the exit in closed
form, as prune does. Without --images nothing is trained: what is compared is the choice of the structure.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from arena.cells import Cell, Key, Store
from arena.methods import DENSE, depth_of
from arena.play import dense_cell, finish, ours_with, time_together
from arena.setting import Setting, refit_within
from arena.show import lines_picture

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.config.recipe import Recipe
from wdp_edge.io.files import write_json

WIDTH, DEPTH, BOTH = "width only", "depth only", "width and depth"
PRECISIONS = ("int8-dynamic", "fp32")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, required=True, help="a folder with wdp-edge.toml")
    parser.add_argument("--out", type=Path, default=Path("runs/depth-width"), help="finished cells are not repeated")
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.35, 0.5, 0.65, 0.8])
    parser.add_argument("--images", type=int, default=0)
    return parser.parse_args()


def widths(setting: Setting, store: Store, shares: list[float], images: int) -> None:
    """Cells of WIDTH and BOTH, as far as they are missing."""
    exits = setting.structure.depth // 2
    for share in shares:
        for name, count in ((WIDTH, 0), (BOTH, exits)):
            key = Key(name, share, setting.recipe.prune.seed, images, True)
            if store.find(key) is None:
                progress.say(f"== {name}, {share:.0%} of the dense latency")
                store.put(ours_with(setting, store, key, (("learn.exits", count),)))


def depths(setting: Setting, store: Store, images: int) -> None:
    """Cells of DEPTH: every exit from half the blocks on."""
    blocks = setting.structure.depth
    for depth in range(blocks - 1, blocks // 2 - 1, -1):
        key = Key(DEPTH, depth / blocks, setting.recipe.prune.seed, images, True)
        if store.find(key) is None:
            progress.say(f"== {DEPTH}, {depth} of {blocks} blocks")
            proposal = depth_of(setting, depth)
            made = setting.share_of(proposal.model)
            store.put(finish(setting, store, key, proposal, made))


def run(recipe: Recipe, args: argparse.Namespace, precision: str) -> list[Cell]:
    """All cells of one precision."""
    own = replace(recipe, prune=replace(recipe.prune, precision=precision))
    if args.images:
        own = refit_within(own, args.images)
    store = Store(args.out / precision)
    setting = Setting(own, store.folder / "files")
    dense_cell(setting, store)
    depths(setting, store, args.images)
    widths(setting, store, args.shares, args.images)
    time_together(setting, store, store.all())
    return store.all()


def main() -> None:
    """Cells of both precisions, then tables and picture."""
    args = arguments()
    progress.use(progress.Bars())
    recipe = absolute_paths(load_recipe(args.project / RECIPE_FILE))
    found = {precision: run(recipe, args, precision) for precision in args.precisions}
    for precision, cells in found.items():
        print(f"\n{precision}, dense {next(c.accuracy for c in cells if c.method == DENSE):.2%}")
        print("| method | latency | blocks | MACs | accuracy |\n| --- | --- | --- | --- | --- |")
        for cell in sorted(cells, key=lambda c: (c.method, -(c.timed or c.made))):
            if cell.method != DENSE:
                blocks = len(cell.structure["blocks"])
                latency = f"{cell.timed or cell.made:.1%}"
                print(f"| {cell.method} | {latency} | {blocks} | {cell.macs / 1e6:.0f} M | {cell.accuracy:.2%} |")
    write_json(args.out / "cells.json", {"version": 1, "cells": found})
    lines_picture(found, (WIDTH, DEPTH, BOTH), args.out / "depth-width.png")


if __name__ == "__main__":
    main()
