"""`python parallel_run.py FOLDER OUT`: 20 steps of search and of recovery on images in FOLDER; what is left, in OUT.

One of the processes of `torchrun`, or the only one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import timm
import torch
from tiny_vit import TINY, lively
from torch import Tensor

from wdp_edge.config.recipe import LearnRecipe, RecoverRecipe
from wdp_edge.data.folder import scan
from wdp_edge.data.preprocess import Preprocessing
from wdp_edge.data.stream import StreamOptions, TrainStream
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.recovery import Recovery, RecoveryPlan
from wdp_edge.learn.search import Search, SearchGoal
from wdp_edge.models import vit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.workers.parallel import world

STEPS, BATCH = 20, 12
COST = CostModel(attention=((1, 1.0), (4, 4.0)), mlp=((32, 1.0), (128, 4.0)), fixed=1.0)


def main(folder: Path, out: Path) -> None:
    torch.manual_seed(0)
    model = lively(timm.create_model(TINY.name, num_classes=TINY.num_classes, **TINY.args))
    images = scan(folder)
    preprocessing = Preprocessing((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 1.0)
    stream = TrainStream(images, range(len(images)), preprocessing, StreamOptions(BATCH, 3, world=world()))
    structure = vit.structure_of(model)
    scores = [
        [[(i + 0.5) / n for i in range(n)] for n in widths]
        for widths in zip(*((b.heads, b.hidden) for b in structure.blocks), strict=True)
    ]
    masks = Masks(structure, *scores, Alignment(1, 8))
    with torch.no_grad():
        masks.hidden_thresholds.fill_(0.5)
    searching = Search(model, masks, SearchGoal(COST, 20.0, 12.0, STEPS), LearnRecipe(exits=1))
    found: dict[str, Tensor] = {}
    multipliers = [searching.step(*batch)["lambda"] for batch in stream.batches(0, STEPS)]
    for part in ("masks", "exits", "student"):
        found |= {f"{part}.{name}": value for name, value in searching.state()[part].items()}
    found |= {f"kept.{i}.{b}": m for i, kind in enumerate(masks.masks()) for b, m in enumerate(kind)}
    found["multipliers"] = torch.tensor(multipliers)

    small = cut(
        model, Kept(((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 3)), (tuple(range(128)), tuple(range(120)), tuple(range(128))))
    )
    recovery = Recovery(model, small, RecoveryPlan(STEPS), RecoverRecipe())
    for batch in stream.batches(STEPS, 2 * STEPS):
        recovery.step(*batch)
    for part in ("student", "average"):
        found |= {f"recovered.{part}.{name}": value for name, value in recovery.state()[part].items()}
    found["distance"] = torch.tensor(recovery.distance)
    torch.save({name: value.detach() for name, value in found.items()}, out.with_suffix(f".{world().rank}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
