"""Whether a file lands where its budget says: ten budgets, each file measured against the dense one.

    python benchmarks/bench_budgets.py --project FOLDER

Every run is `wdp-edge prune` with another --latency-budget. Goal: each file inside [0.95, 1.00] of its budget.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.pruning.prune import prune

BUDGETS = (30, 35, 40, 45, 50, 55, 60, 70, 80, 90)
FLOOR = 0.95


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, required=True, help="a folder with wdp-edge.toml")
    parser.add_argument("--out", type=Path, default=Path("runs/budgets"), help="finished runs there are not repeated")
    parser.add_argument("--precision", default="int8-dynamic")
    parser.add_argument("--images", type=int, default=0, help="training images per run; a budget holds without any")
    parser.add_argument("--budgets", type=float, nargs="+", default=list(BUDGETS), help="in per cent of dense")
    return parser.parse_args()


def main() -> None:
    """One run for each budget, then the table."""
    args = arguments()
    progress.use(progress.Bars())
    recipe = absolute_paths(load_recipe(args.project / RECIPE_FILE))
    lines, inside = [], 0
    for budget in args.budgets:
        own = replace(recipe.prune, latency_budget=f"{budget:g}%", precision=args.precision, images=args.images)
        result = prune(replace(recipe, prune=replace(own, out=str((args.out / f"{budget:g}").resolve()))))
        used, shipped, dense = result.budget.ratio, result.shipped, result.dense
        inside += FLOOR <= used <= 1.0
        assert shipped.accuracy is not None and dense.accuracy is not None
        loss = 100 * (dense.accuracy - shipped.accuracy)
        lines.append(
            f"| {budget:g} % | {used:.1%} | {dense.latency_ms.p50:.2f} → {shipped.latency_ms.p50:.2f} ms "
            f"| {shipped.macs / dense.macs:.1%} | {shipped.accuracy:.2%} | {loss:.2f} |"
        )
    print(
        f"{recipe.model.name} {dict(recipe.model.args)}, {recipe.prune.target} {args.precision}, {args.images} images"
    )
    print("| budget | share of it used | p50 dense → shipped | MACs | accuracy | loss |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    print(f"{inside} of {len(lines)} inside [{FLOOR:.2f}, 1.00] of the budget")


if __name__ == "__main__":
    main()
