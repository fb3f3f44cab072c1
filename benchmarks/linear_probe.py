"""What a linear classifier on top of a run's embeddings is worth, before and after pruning.

    python benchmarks/linear_probe.py RUN --train cifar10/train --val cifar10/test

RUN: of the task "features" or "retrieve". The folders hold one subfolder per class; the labels are used here alone. Two
probes are fitted to the dense model's embeddings and to the pruned one's (ridge regression to the classes, in closed
form), and the dense probe is put on the pruned embeddings as it is: whether what was built before goes on working.
Recall@1, Recall@5 and mAP are among the validation images, each in turn against all others. The last column runs the
run's shipped file through its own runtime.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wdp_edge import progress
from wdp_edge.artifacts.parity import accuracy
from wdp_edge.commands.source import Source
from wdp_edge.data.folder import ImageFolder, scan
from wdp_edge.data.loading import load_images
from wdp_edge.data.split import balanced_choice, balanced_counts
from wdp_edge.devices.evaluate import run_artifact
from wdp_edge.io.plain import read_as
from wdp_edge.models.vit import logits
from wdp_edge.runs.results import PruneResult
from wdp_edge.runs.stages import RESULT
from wdp_edge.shrink.gram import Moments
from wdp_edge.tasks.similarity import mean_cosine, retrieval, same_neighbour

RIDGE = 1e-3
_BATCH = 250


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run whose model puts out embeddings")
    parser.add_argument("--train", type=Path, required=True, help="class folders that probes are fitted to")
    parser.add_argument("--val", type=Path, required=True, help="class folders that accuracy is counted on")
    parser.add_argument("--images", type=int, default=10_000, help="training images for the probes")
    parser.add_argument("--val-images", type=int, default=0, help="validation images; 0: all")
    return parser.parse_args()


def chosen(folder: ImageFolder, count: int) -> list[int]:
    """`count` images, class-balanced; all for 0."""
    groups = folder.by_class()
    return balanced_choice(groups, balanced_counts([len(g) for g in groups], count or len(folder)), seed=0)


class Images:
    """Some images of a folder, decoded in parts."""

    def __init__(self, source: Source, folder: ImageFolder, count: int) -> None:
        self.source, self.folder, self.indices = source, folder, chosen(folder, count)
        self.labels = torch.tensor([folder.labels[i] for i in self.indices])

    def parts(self) -> Any:
        data = self.source.data
        for first in range(0, len(self.indices), _BATCH):
            part = self.indices[first : first + _BATCH]
            yield data.prepare(load_images(self.folder, part, data.preprocessing))

    def embeddings(self, model: Any, title: str) -> Tensor:
        """[n, D] float32."""
        found = []
        with progress.task(title, len(self.indices)) as advance:
            for part in self.parts():
                found.append(logits(model, part))
                advance(len(part))
        return torch.cat(found)


def probe(embeddings: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weight [classes, D] and bias [classes] of the best affine map to the classes."""
    moments = Moments(embeddings.shape[1], classes)
    moments.add(embeddings, F.one_hot(labels, classes).float())
    return moments.solve(RIDGE)


def main() -> None:
    """The table."""
    args = arguments()
    progress.use(progress.Bars())
    source = Source.of(args.run)
    shipped = read_as(args.run / RESULT, PruneResult)
    train, val = (
        Images(source, scan(root), count) for root, count in ((args.train, args.images), (args.val, args.val_images))
    )
    dense, small = source.inputs.model.module, source.model
    classes = len(train.folder.classes)
    fits = [probe(train.embeddings(m, f"{n}, training images"), train.labels, classes) for m, n in pairs(dense, small)]
    before, after = (val.embeddings(m, f"{n}, validation images") for m, n in pairs(dense, small))
    assert shipped.shipped.path is not None
    title = "shipped file, validation images"
    path = args.run / "artifacts" / shipped.shipped.path.name
    file = run_artifact(shipped.target, path, val.parts(), len(val.indices), title)

    def right(embeddings: Tensor, fit: tuple[Tensor, Tensor]) -> str:
        return f"{accuracy(F.linear(embeddings, *fit), val.labels):.2%}"

    print(f"{len(train.indices)} training and {len(val.indices)} validation images; {shipped.precision} file")
    print("| | dense | pruned | shipped file |")
    print("| --- | --- | --- | --- |")
    print(f"| probe fitted to its own embeddings | {right(before, fits[0])} | {right(after, fits[1])} | |")
    rows = {
        "probe fitted to the dense embeddings": [right(x, fits[0]) for x in (before, after, file)],
        "mean cosine with the dense embeddings": ["", *(f"{mean_cosine(x, before):.4f}" for x in (after, file))],
        "same neighbour": ["", *(f"{same_neighbour(before, x):.2%}" for x in (after, file))],
    }
    found = [retrieval(x, val.labels) for x in (before, after, file)]
    rows |= {name: [f"{figures[name]:.2%}" for figures in found] for name in found[0]}
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def pairs(dense: Any, small: Any) -> list[tuple[Any, str]]:
    return [(dense, "dense model"), (small, "pruned model")]


if __name__ == "__main__":
    main()
