"""The paper's method with its defects repaired: scores, thresholds and exits learned under a *parameter* budget.

Yu et al., "Width & Depth Pruning for Vision Transformers", AAAI 2022. Repaired: scores and thresholds are optimiser
groups of their own, the multiplier is bounded, thresholds start where their gradient lives, counts are those of the
rounded widths. Scores start at random, as there; nothing is refitted in closed form; the last exit is kept, which is
what its authors choose by hand for most of their models. As for every method, recovery starts from the dense weights:
those that moved while the widths were learned are not used.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from arena.setting import Proposal, Setting
from wdp_edge.learn.budget_term import CostModel
from wdp_edge.learn.masks import Alignment, Masks
from wdp_edge.learn.search import SearchGoal, search
from wdp_edge.models.structure import attention_counts, mlp_counts
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.pruning.choose import search_batch
from wdp_edge.runs.stages import Learned
from wdp_edge.select.candidates import narrower

_START_SPREAD = 0.01


def learn(setting: Setting, share: float, images: int) -> Learned:
    """Scores and keep ratios under a budget of `share` of the parameters in the blocks."""
    options = setting.recipe.prune.learn
    torch.manual_seed(setting.recipe.prune.seed)
    blocks = setting.structure.blocks
    scores = [[(_START_SPREAD * torch.randn(n)).tolist() for n in (b.heads, b.hidden)] for b in blocks]
    alignment = Alignment(1, setting.tools.target.mlp_width_multiple)
    masks = Masks(setting.structure, [s[0] for s in scores], [s[1] for s in scores], alignment)
    width, geometry = setting.structure.embed_dim, setting.geometry
    attention = attention_counts(blocks[0], width, geometry).parameters
    mlp = mlp_counts(blocks[0], width, geometry).parameters
    cost = CostModel([(0, 0), (blocks[0].heads, attention)], [(0, 0), (blocks[0].hidden, mlp)], 0.0)
    total = float(len(blocks) * (attention + mlp))
    batch = search_batch(images, options.batch_size)
    goal = SearchGoal(cost, total, share * total, images // batch, batch)
    stream = setting.data.stream(batch, first=0)
    checkpoint = setting.folder / "paper.checkpoint"
    checkpoint.unlink(missing_ok=True)  # a killed run's may be of another share
    learned = search(setting.dense, masks, goal, options, stream, checkpoint)
    checkpoint.unlink(missing_ok=True)
    return learned


def maker(setting: Setting, share: float, images: int) -> Callable[[float], Proposal]:
    """The learned widths, all scaled by one factor until the file has the wanted latency."""
    learned = learn(setting, share, images)
    multiple = setting.tools.target.mlp_width_multiple

    def make(keep: float) -> Proposal:
        scale, heads, hidden = keep / share, [], []
        for i, block in enumerate(setting.structure.blocks):
            count = min(block.heads, max(1, round(scale * learned.keep_heads[i] * block.heads)))
            heads.append(top(learned.heads_scores[i], count))
            count = narrower(block.hidden, min(1.0, scale * learned.keep_hidden[i]) * block.hidden, multiple)
            hidden.append(top(learned.hidden_scores[i], count))
        kept = Kept(tuple(heads), tuple(hidden))
        return Proposal(cut(setting.dense, kept), None, learned.images, learned.curve[-1].step if learned.curve else 0)

    return make


def top(scores: list[float], count: int) -> tuple[int, ...]:
    """The places of the `count` highest scores, ascending."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return tuple(sorted(order[:count]))
