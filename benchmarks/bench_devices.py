"""How far an emulator's instruction counts agree with measured time: the dense model, a pruned one, random structures.

    python benchmarks/bench_devices.py --run runs/… --device qemu:cortex-a76

Every structure is exported with random weights to every kind of file, timed on this machine in turn, and counted on the
device. Agreement: Spearman's rank correlation over the random structures, and how many pairs come in the same order.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scipy.stats import spearmanr

from wdp_edge import progress
from wdp_edge.cost.measure import export_all
from wdp_edge.models.files import read_spec
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import BlockWidths, Structure
from wdp_edge.models.vit import structure_of
from wdp_edge.protocols.device import TimingPlan, get_device, ratio
from wdp_edge.protocols.precision import Precision
from wdp_edge.protocols.target import get_target
from wdp_edge.pruning.choose import HEAD_MULTIPLE

FILES = (
    ("executorch", Precision.FP32),
    ("executorch", Precision.INT8_DYNAMIC),
    ("tflite", Precision.INT8_DYNAMIC),
    ("onnx", Precision.INT8_DYNAMIC),
)
EXITS, DROPPED = 4, 0.05


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="a finished run: its pruned structure is one of them")
    parser.add_argument("--device", default="qemu:cortex-a76")
    parser.add_argument("--structures", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def random_structures(dense: Structure, multiple: int, count: int, seed: int) -> list[Structure]:
    """Random widths per block, random exits among the last blocks, and one sub-layer in twenty gone.

    Every other structure has heads of fewer channels. multiple: of hidden units.
    """
    rng = random.Random(seed)
    structures = []
    for number in range(count):
        depth = rng.randint(max(1, dense.depth - EXITS + 1), dense.depth)
        blocks = tuple(random_block(b, multiple, number % 2 == 1, rng) for b in dense.blocks[:depth])
        structures.append(replace(dense, blocks=blocks))
    return structures


def random_block(dense: BlockWidths, multiple: int, narrow: bool, rng: random.Random) -> BlockWidths:
    """narrow: its heads may have fewer channels."""
    hidden = multiple * rng.randint(1, dense.hidden // multiple)
    channels = [*range(2 * HEAD_MULTIPLE, dense.head_dim, HEAD_MULTIPLE)] if narrow else []
    heads, head_dim = rng.randint(1, dense.heads), rng.choice([*channels, dense.head_dim])
    gone = [rng.random() < DROPPED for _ in range(2)]
    return BlockWidths(0 if gone[0] else heads, head_dim, 0 if gone[1] else hidden)


def times(device: str, target: str, paths: Sequence[Path]) -> list[tuple[float, float]]:
    """p50 in ms, and the share of the first file's time, for each file."""
    plan = TimingPlan(rounds=24)
    with progress.task(f"time on {device}", plan.rounds) as advance:
        timings = get_device(device).time(target, paths, plan, lambda done, total: advance(1))
    return [(t.latency.p50, ratio(t, timings[0])) for t in timings]


def same_order(a: Sequence[float], b: Sequence[float]) -> tuple[int, int]:
    """Pairs that both put in the same order, of how many."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    return sum((a[i] < a[j]) == (b[i] < b[j]) for i, j in pairs), len(pairs)


def compare(spec: ModelSpec, structures: list[Structure], target: str, precision: Precision, device: str) -> str:
    """One line of the table. structures: dense, pruned, then random ones."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = get_target(target)
        paths = [Path(folder) / f"{i}{adapter.suffix}" for i in range(len(structures))]
        export_all(spec, adapter, precision, list(zip(structures, paths, strict=True)), f"{target} {precision}: export")
        here, there = times("local", target, paths), times(device, target, paths)
    shares = [share for _, share in here[2:]], [share for _, share in there[2:]]
    same, pairs = same_order(*shares)
    rank = spearmanr(*shares).statistic
    return (
        f"{target:11} {precision:13} {here[0][0]:7.2f} {here[1][0]:7.2f} {here[1][1]:7.1%} "
        f"{there[0][0]:8.1f} {there[1][0]:8.1f} {there[1][1]:7.1%} {rank:9.3f} {same:4d}/{pairs}"
    )


def main() -> None:
    args = arguments()
    progress.use(progress.Bars())
    spec, pruned = read_spec(args.run / "model")
    dense = structure_of(create(spec))
    structures = [dense, pruned]
    structures += random_structures(dense, get_target("executorch").mlp_width_multiple, args.structures, args.seed)
    lines = [compare(spec, structures, target, precision, args.device) for target, precision in FILES]
    print(f"{spec.name} {dict(spec.args)}, one thread; {args.structures} random structures")
    print(f"{'':25} local, ms{'':15} {args.device}, million instructions {'':3} ranking")
    print(f"{'':25}   dense  pruned   ratio    dense   pruned   ratio  spearman  same order")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
