"""How well the latency table predicts exported models: random structures, predicted against measured.

    python benchmarks/bench_table.py --structures 20 --precision int8-dynamic

Goal: 3 % in the median, 7 % at worst.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path

from wdp_edge import progress
from wdp_edge.cost.measure import Setting, export_all, measure_table
from wdp_edge.device import TimingPlan, ratio
from wdp_edge.devices import get_device
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.vit import structure_of
from wdp_edge.pipeline.choose import HEAD_MULTIPLE
from wdp_edge.recipe import TableRecipe
from wdp_edge.structure import BlockWidths, Structure
from wdp_edge.target import Target, get_target, parse_precision

DROPPED = 0.05


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="vit_small_patch14_dinov2")
    parser.add_argument("--model-arg", action="append", default=None, metavar="NAME=VALUE")
    parser.add_argument("--num-classes", type=int, default=10)
    parser.add_argument("--target", default="executorch")
    parser.add_argument("--precision", default="default")
    parser.add_argument("--device", default="local")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--structures", type=int, default=20)
    parser.add_argument("--exits", type=int, default=4, help="how many of the last blocks may be the last one")
    parser.add_argument("--sessions", type=int, default=3, help="processes that time everything, one after another")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def random_structures(dense: Structure, target: Target, count: int, exits: int, seed: int) -> list[Structure]:
    """Random widths per block, random exits among the last blocks.

    Every other structure has heads of fewer channels; one sub-layer in twenty is gone.
    """
    rng = random.Random(seed)
    structures = []
    for number in range(count):
        depth = rng.randint(max(1, dense.depth - exits + 1), dense.depth)
        blocks = tuple(random_block(b, target, number % 2 == 1, rng) for b in dense.blocks[:depth])
        structures.append(replace(dense, blocks=blocks))
    return structures


def random_block(dense: BlockWidths, target: Target, narrow: bool, rng: random.Random) -> BlockWidths:
    """narrow: its heads may have fewer channels."""
    hidden = target.hidden_multiple * rng.randint(1, dense.hidden // target.hidden_multiple)
    channels = [*range(2 * HEAD_MULTIPLE, dense.head_dim, HEAD_MULTIPLE)] if narrow else []
    heads, head_dim = rng.randint(1, dense.heads), rng.choice([*channels, dense.head_dim])
    gone = [rng.random() < DROPPED for _ in range(2)]
    return BlockWidths(0 if gone[0] else heads, head_dim, 0 if gone[1] else hidden)


def main() -> None:
    """Table and random structures, measured; then predicted against measured."""
    args = arguments()
    progress.use(progress.Bars())
    given = args.model_arg or ["img_size=56"]
    spec = ModelSpec(args.model, args.num_classes, tomllib.loads("\n".join(given)))
    target, device = get_target(args.target), get_device(args.device)
    precision = parse_precision(args.precision, target)
    dense = structure_of(create(spec))
    structures = random_structures(dense, target, args.structures, args.exits, args.seed)
    plan, options = TimingPlan(threads=args.threads), TableRecipe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i}{target.suffix}" for i in range(len(structures) + 1)]
        jobs = list(zip([dense, *structures], paths, strict=True))
        export_all(spec, target, precision, jobs[:1], "dense model: export")
        table = measure_table(Setting(spec, dense, target, precision, device, plan, options), folder, paths[0])
        export_all(spec, target, precision, jobs[1:], "random structures: export")
        with progress.task("random structures: time", args.sessions * plan.rounds) as advance:
            sessions = [
                device.time(target.name, paths, plan, lambda done, total: advance(1)) for _ in range(args.sessions)
            ]
    print(f"{spec.name} {dict(spec.args)}, {target.name} {precision}, {args.threads} thread(s)")
    dense_ms = statistics.median(timings[0].latency.p50 for timings in sessions)
    print(f"dense: {dense_ms:.3f} ms now, {table.dense_ms:.3f} ms in the table's run")
    print(" no  depth  heads  channels  hidden  predicted  measured   error")
    errors = []
    for i, structure in enumerate(structures, 1):
        # As shares of the dense model, timed in the same rounds: a busy machine slows both alike.
        predicted = table.predict(structure) / table.dense_ms
        measured = statistics.median(ratio(timings[i], timings[0]) for timings in sessions)
        errors.append(abs(predicted / measured - 1))
        heads = sum(b.heads for b in structure.blocks)
        channels = sum(b.heads * b.head_dim for b in structure.blocks)
        hidden = sum(b.hidden for b in structure.blocks)
        print(
            f"{i:3d} {structure.depth:6d} {heads:6d} {channels:9d} {hidden:7d} {predicted:9.1%} {measured:9.1%} "
            f"{predicted / measured - 1:+8.1%}"
        )
    print(f"error: median {statistics.median(errors):.1%} (goal 3 %), worst {max(errors):.1%} (goal 7 %)")


if __name__ == "__main__":
    main()
