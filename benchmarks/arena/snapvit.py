"""SnapViT, after its paper and its code: Simoncini, Dorkenwald, Blankevoort, Snoek and Asano, "Elastic ViTs from
Pretrained Models without Retraining", arXiv 2510.17700; numbers are those of its jobs/ga/dino.sh.

A unit's score is its mean squared gradient under DINO's loss between crops of an image, without labels. Each block's
hidden units and each head have a factor, found by xNES: embeddings of the cut models, in the dense model's principal
components, shall point where the dense ones do, over several ratios at once. Then one order of all hidden units and one
of all heads give a model for every ratio. The optional correction of weights is left out: cells with our compensation
have a stronger one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from arena.setting import Proposal, Setting
from arena.xnes import minimise
from wdp_edge import progress
from wdp_edge.models.surgery import Kept, cut

IMAGES, BATCH = 1000, 16
GLOBAL_CROPS, LOCAL_CROPS = 2, 10
GLOBAL_SCALE, LOCAL_SCALE = (0.25, 1.0), (0.05, 0.25)
COMPONENTS, EVALUATIONS = 192, 50
# Of hidden units that go; of heads, fewer by LESS_HEADS. What stays of every block is at least this.
RATIOS, LESS_HEADS = (0.15, 0.35, 0.55, 0.65), 0.15
LEAST_HIDDEN, LEAST_HEADS = 0.05, 0.2
FIRST_FACTOR, LAST_FACTOR = 1.2, 0.8


@dataclass(frozen=True)
class Scores:
    """Per block those of its hidden units and of its heads: [hidden] and [heads] float32."""

    hidden: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]

    def times(self, factors: Tensor) -> Scores:
        """factors: [L + L * heads], of each block's hidden units and of every head."""
        depth = len(self.hidden)
        own = factors[depth:].split([len(h) for h in self.heads])
        return Scores(
            tuple(s * f for s, f in zip(self.hidden, factors[:depth], strict=True)),
            tuple(s * f for s, f in zip(self.heads, own, strict=True)),
        )


def snapvit(setting: Setting, keep: float) -> Proposal:
    """About `keep` of the hidden units, and more of the heads, by one order of each over all blocks."""
    return Proposal(cut(setting.dense, kept(found_scores(setting), 1 - keep)), images=2 * images_of(setting))


def images_of(setting: Setting) -> int:
    """As many for gradients, and as many for the factors."""
    return min(IMAGES, len(setting.data.calibration) // 2)


def kept(scores: Scores, ratio: float) -> Kept:
    """Without the hidden units of lowest score in all blocks, `ratio` of them, and fewer of the heads."""
    return Kept(
        units_kept(scores.heads, max(0.0, ratio - LESS_HEADS), LEAST_HEADS),
        units_kept(scores.hidden, ratio, LEAST_HIDDEN),
    )


def units_kept(scores: Sequence[Tensor], ratio: float, least: float) -> tuple[tuple[int, ...], ...]:
    """Per block what is left, ascending; of every block at least its best units, and at least one."""
    guarded = []
    for own in scores:
        best = own.argsort(descending=True)[: max(1, int(least * len(own)))]
        guarded.append(own.index_fill(0, best, torch.inf))
    everything = torch.cat(guarded)
    gone = torch.zeros(len(everything), dtype=torch.bool)
    gone[everything.argsort()[: int(ratio * len(everything))]] = True
    gone &= everything != torch.inf
    parts = gone.split([len(s) for s in scores])
    return tuple(tuple((~part).nonzero()[:, 0].tolist()) for part in parts)


@cache
def found_scores(setting: Setting) -> Scores:
    """The scores with the factors that xNES found."""
    count, seed = images_of(setting), setting.recipe.prune.seed
    images = setting.data.calibration[: 2 * count]
    torch.manual_seed(seed)
    scores = gradient_scores(setting.dense, images[:count], setting.data.prepare)
    seen = setting.data.prepare(images[count:])
    target, axes = principal(embeddings(setting.dense, seen))
    depth, heads = len(scores.hidden), [len(h) for h in scores.heads]
    falling = torch.linspace(FIRST_FACTOR, LAST_FACTOR, depth)
    start = torch.cat([falling, *(f.repeat(n) for f, n in zip(falling, heads, strict=True))])

    def loss(factors: np.ndarray[Any, Any]) -> float:
        scaled = scores.times(torch.tensor(factors, dtype=torch.float32).abs())
        outputs = (embeddings(cut(setting.dense, kept(scaled, r)), seen) for r in RATIOS)
        near = [nn.functional.cosine_similarity(target, (e - axes[0]) @ axes[1]).mean() for e in outputs]
        return 1 - float(torch.stack(near).mean())

    with progress.task("SnapViT: factors", EVALUATIONS) as advance:
        best = minimise(loss, start.double().numpy(), EVALUATIONS, seed, lambda: advance(1))
    return scores.times(torch.tensor(best, dtype=torch.float32).abs())


def gradient_scores(dense: Any, images: Tensor, prepare: Any) -> Scores:
    """images: [n, 3, H, W] uint8."""
    model = copy.deepcopy(dense).requires_grad_(False).eval()
    watched = [layer for block in model.blocks for layer in (block.attn.qkv, block.mlp.fc1)]
    for layer in watched:
        layer.weight.requires_grad_()
    size = tuple(images.shape[-2:])
    crops = [
        *[v2.RandomResizedCrop(size, scale=GLOBAL_SCALE, antialias=True)] * GLOBAL_CROPS,
        *[v2.RandomResizedCrop(size, scale=LOCAL_SCALE, antialias=True)] * LOCAL_CROPS,
    ]
    with progress.task("SnapViT: gradients", len(images)) as advance:
        for part in images.split(BATCH):
            views = [prepare(torch.stack([crop(image) for image in part])) for crop in crops]
            dino_loss(dense, model, views).backward()
            advance(len(part))
    hidden = tuple(b.mlp.fc1.weight.grad.square().mean(1) for b in model.blocks)
    values = [b.attn.qkv.weight.grad.chunk(3)[2].square().unflatten(0, (b.attn.num_heads, -1)) for b in model.blocks]
    return Scores(hidden, tuple(v.mean((1, 2)) for v in values))


def dino_loss(teacher: Any, student: Any, views: Sequence[Tensor]) -> Tensor:
    """Cross-entropy between the embeddings of two large crops and of all others: []."""
    with torch.no_grad():
        wanted = [nn.functional.normalize(embedding(teacher, x), dim=-1).softmax(-1) for x in views[:GLOBAL_CROPS]]
    given = [nn.functional.normalize(embedding(student, x), dim=-1).log_softmax(-1) for x in views]
    pairs = [-(t * s).sum(-1).mean() for i, t in enumerate(wanted) for j, s in enumerate(given) if i != j]
    return torch.stack(pairs).sum()


def embedding(model: Any, images: Tensor) -> Tensor:
    """What the model's head reads: [B, D]."""
    pooled: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
    return pooled


@torch.no_grad()
def embeddings(model: Any, images: Tensor) -> Tensor:
    """`embedding` of many images: [n, D]."""
    return torch.cat([embedding(model.eval(), part) for part in images.split(64)])


def principal(dense: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """dense: [n, D] -> in their principal components, [n, COMPONENTS]; mean [D] and components [D, COMPONENTS]."""
    mean = dense.mean(0)
    _, _, axes = torch.linalg.svd(dense - mean, full_matrices=False)
    components = axes[:COMPONENTS].T
    return (dense - mean) @ components, (mean, components)
