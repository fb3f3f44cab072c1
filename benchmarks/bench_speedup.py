"""How much of the saved work is saved time: speed-up over MAC reduction, and where the rest of the time goes.

    python benchmarks/bench_speedup.py --model vit_small_patch16_224

Random weights, spread as a trained model's, and crops of two photographs: the structure is chosen by `prune` at half
the dense latency, without training. Goal for ViT-S/16 at 224 px on ExecuTorch: at least 0.95.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import timm
import torch
from bench_export import photographs, spread
from safetensors.torch import save_file

from wdp_edge import progress
from wdp_edge.commands.profile import profile_operators, traced_on
from wdp_edge.config.recipe import DataRecipe, ModelRecipe, PruneRecipe, Recipe
from wdp_edge.protocols.device import get_device
from wdp_edge.pruning.prune import prune
from wdp_edge.report.parts import by_part


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--target", default="executorch")
    parser.add_argument("--precision", default="default")
    parser.add_argument("--latency-budget", default="50%")
    parser.add_argument("--out", type=Path, help="keep the run here; default: a temporary folder")
    return parser.parse_args()


def main() -> None:
    """One run without training, then its speed-up and where the time goes."""
    args = arguments()
    device = traced_on(get_device("local"), args.target)
    progress.use(progress.Bars())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = photographs(folder / "photographs")
        classes = sum(1 for p in (data / "train").iterdir())
        torch.manual_seed(0)
        model = timm.create_model(args.model, num_classes=classes)
        spread(model)
        save_file(model.state_dict(), folder / "dense.safetensors")
        own = PruneRecipe(
            latency_budget=args.latency_budget,
            target=args.target,
            precision=args.precision,
            images=0,
            out=str(args.out or folder / "run"),
        )
        images = DataRecipe(str(data / "train"), str(data / "val"), holdout_images=256, calibration_images=512)
        checkpoint = str(folder / "dense.safetensors")
        result = prune(Recipe(ModelRecipe(args.model, {}, classes, checkpoint), images, own))
        dense, shipped = result.dense, result.shipped
        assert shipped.path is not None and dense.path is not None
        profiles = profile_operators(device, shipped.path, dense.path, own.threads)
    share = result.time_ms / dense.latency_ms.p50
    faster, fewer = 1 / share, dense.macs / shipped.macs
    print(f"{args.model}, random weights, {result.target} {result.precision}, one thread")
    print(f"latency {dense.latency_ms.p50:.2f} -> {shipped.latency_ms.p50:.2f} ms, {faster:.2f} x faster")
    print(f"MACs {dense.macs / 1e6:.0f} -> {shipped.macs / 1e6:.0f} M, {fewer:.2f} x fewer")
    print(f"speed-up / MAC reduction {faster / fewer:.3f} (goal 0.95)\n")
    assert profiles.dense is not None
    before, after = by_part(profiles.dense), by_part(profiles.file)
    print("| part | dense, ms | pruned, ms | left |\n| --- | --- | --- | --- |")
    for part, ms in before.items():
        print(f"| {part} | {ms:.2f} | {after.get(part, 0.0):.2f} | {after.get(part, 0.0) / ms:.0%} |")
    whole, left = profiles.dense.ms, profiles.file.ms
    print(f"| all operators | {whole:.2f} | {left:.2f} | {left / whole:.0%} |")
    print(f"\noutside of delegates: {profiles.file.outside_ms:.2f} of {profiles.file.ms:.2f} ms")


if __name__ == "__main__":
    main()
