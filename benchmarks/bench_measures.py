"""By which measure candidates should be ordered where the dense model knows its training images by heart.

    python benchmarks/bench_measures.py --project FOLDER [--share 0.5] [--swap] [--own-head]

FOLDER has the wdp-edge.toml of a classifier. A head is fitted to one half of each class's training images, which it
then knows by heart; the other half is new to it. With --own-head the model stays as it is, and validation images are
the new ones. Some twenty structures with the same multiply-accumulates are cut and compensated on images of the first
half; each measure orders them by images of that half, held back from the refit, and is held against their divergence
from the dense model on the new ones: Spearman's rank correlation. A measure that orders at random has 0.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from wdp_edge import progress
from wdp_edge.commands.init import RECIPE_FILE
from wdp_edge.config.file import absolute_paths, load_recipe
from wdp_edge.cost.table import LatencyTable, TableKey
from wdp_edge.data.loading import load_labelled
from wdp_edge.data.split import balanced_choice
from wdp_edge.heads.features import read_by_head
from wdp_edge.heads.fit import fit
from wdp_edge.models import vit
from wdp_edge.models.structure import attention_counts, mlp_counts
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.protocols.device import Kind
from wdp_edge.pruning.choose import HEAD_MULTIPLE
from wdp_edge.pruning.inputs import Inputs
from wdp_edge.select.candidates import Allowed, solve, solve_uniform
from wdp_edge.select.rankings import Ranking, narrow_ranking, saliency_ranking, tilted_ranking
from wdp_edge.shrink.axes import narrow_widths, principal_axes
from wdp_edge.shrink.compensation import refit
from wdp_edge.shrink.saliency import Importance, fisher, saliency
from wdp_edge.shrink.streams import DenseStream
from wdp_edge.tasks.classify import distillation

HELD, FITTED, CALIBRATION, NEW = 256, 256, 512, 512
CROPPED = (0.2, 0.6)  # of the area
TILTS = (0.35, 0.7, 1.4, -0.7, -1.4)
UNEVEN = (0.5, 1.0, 1.5)
MULTIPLE = 8  # of hidden units

Measure = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True)
class Half:
    """The dense model and images, [n, 3, H, W] uint8: held back and to calibrate on, both memorised, and new ones."""

    model: Any
    prepare: Callable[[Tensor], Tensor]
    held: Tensor
    calibration: Tensor
    new: Tensor

    @property
    def views(self) -> dict[str, Tensor]:
        return {"held": self.held, "crops": crops(self.held), "new": self.new}

    def outputs(self, model: Any) -> dict[str, Tensor]:
        """Logits for every view."""
        return {name: vit.logits(model, self.prepare(images)) for name, images in self.views.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--project", type=Path, required=True, help=f"folder with a {RECIPE_FILE}")
    parser.add_argument("--share", type=float, default=0.5, help="of the dense model's multiply-accumulates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--swap", action="store_true", help="fit the head to the other half")
    parser.add_argument("--own-head", action="store_true", help="keep the model; validation images are the new ones")
    return parser.parse_args()


def crops(images: Tensor) -> Tensor:
    """A random square part of each image, at its own size: [n, 3, H, W] uint8."""
    generator, side, found = torch.Generator().manual_seed(1), images.shape[-1], []
    for image in images:
        area = CROPPED[0] + (CROPPED[1] - CROPPED[0]) * float(torch.rand((), generator=generator))
        width = max(4, round(side * math.sqrt(area)))
        top, left = (int(torch.randint(0, side - width + 1, (), generator=generator)) for _ in range(2))
        part = image[None, :, top : top + width, left : left + width].float()
        found.append(F.interpolate(part, size=images.shape[-2:], mode="bicubic", antialias=True)[0])
    return torch.stack(found).round().clamp(0, 255).to(torch.uint8)


def halves(inputs: Inputs, seed: int, swap: bool) -> Half:
    """A head fitted to one half of the training images."""
    data, model = inputs.data, inputs.model.module
    groups = data.train.by_class()
    one = balanced_choice(groups, [(len(group) + 1) // 2 for group in groups], seed)
    other = sorted(set(range(len(data.train))) - set(one))
    known, new = (mixed(part, seed) for part in ((other, one) if swap else (one, other)))
    images, labels = load_labelled(data.train, known, data.preprocessing, data.options.workers, "read known images")
    parts = images.split(64)
    with torch.no_grad(), progress.task("what the head reads", len(parts)) as advance:
        features = []
        for part in parts:
            features.append(read_by_head(model, data.prepare(part)))
            advance(1)
    learn = len(known) * 4 // 5
    head = fit(torch.cat(features), labels, len(groups), range(learn), range(learn, len(known))).head
    vit.set_classifier(model, head.weight, head.bias)
    unseen = load_labelled(data.train, new[:NEW], data.preprocessing, data.options.workers, "read new images")[0]
    held = min(HELD, len(images) // 3)
    return Half(model, data.prepare, images[:held], images[held : held + CALIBRATION], unseen)


def as_it_is(inputs: Inputs, seed: int) -> Half:
    """The model with its own head; validation images are new to it."""
    data = inputs.data
    new = mixed(range(len(data.val)), seed)[:NEW]
    unseen = load_labelled(data.val, new, data.preprocessing, data.options.workers, "read new images")[0]
    return Half(inputs.model.module, data.prepare, data.holdout[0][:HELD], data.calibration[:CALIBRATION], unseen)


def mixed(indices: Sequence[int], seed: int) -> list[int]:
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed)).tolist()
    return [indices[i] for i in order]


def counted(model: Any) -> LatencyTable:
    """A table of multiply-accumulates, in millions, for models whose blocks are alike."""
    dense, geometry = vit.structure_of(model), vit.geometry_of(model)
    block = dense.blocks[0]
    attention = attention_counts(block, dense.embed_dim, geometry, 0).macs / 1e6
    mlp = mlp_counts(block, dense.embed_dim, geometry, 0).macs / 1e6
    rest = geometry.macs / 1e6
    key = TableKey("none", "fp32", "counted", 1, dense.embed_dim, block.head_dim, vit.tokens_of(model), {})
    return LatencyTable(
        attention=((1.0, attention / block.heads), (float(block.heads), attention)),
        mlp=((1.0, mlp / block.hidden), (float(block.hidden), mlp)),
        fixed_ms=rest,
        dense_ms=rest + dense.depth * (attention + mlp),
        kind=Kind.ESTIMATED,
        key=key,
        context=(),
    )


def structures(half: Half, share: float, seed: int, scratch: Path) -> Iterator[tuple[str, Any, Kept]]:
    """Names, what is cut, and what stays."""
    model, prepare = half.model, half.prepare
    information = fisher(model, half.calibration, prepare, seed)
    start = saliency(model, half.calibration, prepare, information, scratch)
    widths = narrow_widths(model, HEAD_MULTIPLE)
    turned, narrow = principal_axes(model, half.calibration[:FITTED], prepare, information, widths, scratch)
    curves, channels = saliency_ranking(start), narrow_ranking(start, narrow)
    dense, table = vit.structure_of(model), counted(model)
    limit = share * table.dense_ms
    rankings = [curves, channels, tilted_ranking(channels, 0.7), *(tilted_ranking(curves, by) for by in TILTS)]
    draw = random.Random(seed)
    rankings += [uneven(curves, spread, number, draw) for spread in UNEVEN for number in range(2)]
    plans = [(ranking, dense.depth) for ranking in rankings]
    plans += [(ranking, dense.depth - gone) for ranking in (curves, channels) for gone in (1, 2)]
    allowed = Allowed(MULTIPLE)
    for ranking, depth in plans:
        if kept := solve(ranking, dense, depth, table, limit, allowed):
            yield f"{ranking.name}, exit {depth}" if depth < dense.depth else ranking.name, turned, kept
    if kept := solve_uniform(curves, dense, dense.depth, table, limit, allowed):
        yield "uniform", turned, kept


def uneven(ranking: Ranking, spread: float, number: int, draw: random.Random) -> Ranking:
    """The ranking with every layer's losses multiplied by a random number."""

    def scaled(layers: Sequence[Importance]) -> tuple[Importance, ...]:
        factors = [math.exp(draw.gauss(0, spread)) for _ in layers]
        return tuple(
            Importance(r.order, tuple(cost * f for cost in r.cost)) for r, f in zip(layers, factors, strict=True)
        )

    return replace(
        ranking, name=f"uneven {spread:g} ({number})", heads=scaled(ranking.heads), hidden=scaled(ranking.hidden)
    )


def at(temperature: float) -> Measure:
    return lambda outputs, teacher: float(distillation(outputs, teacher, temperature))


def disagreement(outputs: Tensor, teacher: Tensor) -> float:
    return float((outputs.argmax(1) != teacher.argmax(1)).float().mean())


MEASURES: dict[str, tuple[str, Measure]] = {
    "divergence": ("held", at(1.0)),
    "divergence, temperature 2": ("held", at(2.0)),
    "divergence, temperature 4": ("held", at(4.0)),
    "divergence, temperature 16": ("held", at(16.0)),
    "disagreement": ("held", disagreement),
    "divergence on crops": ("crops", at(1.0)),
    "divergence on crops, temperature 16": ("crops", at(16.0)),
    "disagreement on crops": ("crops", disagreement),
}


def main() -> None:
    """All structures, then what each measure says of them."""
    args = arguments()
    progress.use(progress.Bars())
    inputs = Inputs.of(absolute_paths(load_recipe(args.project / RECIPE_FILE)))
    half = as_it_is(inputs, args.seed) if args.own_head else halves(inputs, args.seed, args.swap)
    teacher = half.outputs(half.model)
    for name, outputs in teacher.items():
        progress.say(f"{name}: the dense model's mean confidence is {float(outputs.softmax(1).amax(1).mean()):.3f}")
    found: dict[str, dict[str, Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        candidates = list(structures(half, args.share, args.seed, scratch))
        with (
            DenseStream(half.model, half.calibration[:FITTED], half.prepare, scratch, keep=True) as stream,
            progress.task("candidates", len(candidates)) as advance,
        ):
            for name, source, kept in candidates:
                small = cut(source, kept)
                refit(stream, small, scratch, name)
                found[name] = half.outputs(small)
                advance(1)
    show(found, teacher)


def show(found: dict[str, dict[str, Tensor]], teacher: dict[str, Tensor]) -> None:
    """Prints every structure's figures, and how each measure orders them. found: logits by structure and view."""
    truth = [at(1.0)(outputs["new"], teacher["new"]) for outputs in found.values()]
    print("\n| structure | divergence, held back | new images | agreement, held back | new images |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, outputs in found.items():
        cells = [f"{at(1.0)(outputs[view], teacher[view]):.3f}" for view in ("held", "new")]
        cells += [f"{1 - disagreement(outputs[view], teacher[view]):.1%}" for view in ("held", "new")]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| measure | correlation | its choice is worse than the best by |\n| --- | ---: | ---: |")
    for name, (view, measure) in MEASURES.items():
        values = [measure(outputs[view], teacher[view]) for outputs in found.values()]
        if len(set(values)) == 1:
            print(f"| {name} | – | – |")  # it tells none apart
            continue
        chosen = truth[values.index(min(values))]
        print(f"| {name} | {spearmanr(values, truth).statistic:.3f} | {chosen / min(truth) - 1:.1%} |")


if __name__ == "__main__":
    main()
