"""The methods by name: each gives, for a share of the dense latency, a model that an exported file has measured."""

from __future__ import annotations

import copy
from collections.abc import Callable

from arena import grail, paper
from arena.fit import fit
from arena.peers import TorchPruning
from arena.setting import Proposal, Setting
from arena.smaller import smaller
from arena.snapvit import snapvit
from wdp_edge.models.surgery import Kept, cut
from wdp_edge.select.candidates import narrower

DENSE, CONTROL, OURS = "dense", "control", "ours"
SMALLER = "smaller model, weights selected from the dense one"


def uniform(setting: Setting, keep: float) -> Proposal:
    """`uniform_widths`, cut from the dense model as it is."""
    return Proposal(cut(setting.dense, uniform_widths(setting, keep)))


def grail_uniform(setting: Setting, keep: float) -> Proposal:
    """The same structure, compensated as GRAIL does it."""
    return grail.compensated(setting, uniform_widths(setting, keep))


def uniform_widths(setting: Setting, keep: float) -> Kept:
    """The same share of heads and hidden units in every block, those with the largest weights."""
    multiple = setting.tools.target.mlp_width_multiple
    heads, hidden = [], []
    for block in setting.dense.blocks:
        attention, mlp = block.attn, block.mlp
        weights = attention.proj.weight.detach().reshape(-1, attention.num_heads, attention.head_dim)
        heads.append(paper.top(weights.square().sum((0, 2)).tolist(), max(1, round(keep * attention.num_heads))))
        count = narrower(mlp.fc1.out_features, keep * mlp.fc1.out_features, multiple)
        norms = mlp.fc1.weight.detach().square().sum(1) * mlp.fc2.weight.detach().square().sum(0)
        hidden.append(paper.top(norms.tolist(), count))
    return Kept(tuple(heads), tuple(hidden))


def depth_only(setting: Setting, keep: float) -> Proposal:
    """Whole blocks, about `keep` of them."""
    return depth_of(setting, max(1, round(keep * setting.structure.depth)))


def depth_of(setting: Setting, depth: int) -> Proposal:
    """The first `depth` blocks, all widths as they were, under the dense model's own norm and head."""
    kept = setting.structure.blocks[:depth]
    widths = setting.structure.with_widths([b.heads for b in kept], [b.hidden for b in kept])
    return Proposal(cut(setting.dense, Kept.first(widths)))


ONE_KNOB: dict[str, Callable[[Setting, float], Proposal]] = {
    "uniform width": uniform,
    "GRAIL, uniform width": grail_uniform,
    "depth only": depth_only,
    "SnapViT": snapvit,
    SMALLER: smaller,
    "TP random, uniform": TorchPruning("random", "uniform"),
    "TP magnitude, global": TorchPruning("magnitude", "global"),
    "TP magnitude, isomorphic": TorchPruning("magnitude", "isomorphic"),
    "TP Taylor, global": TorchPruning("taylor", "global"),
    "TP Taylor, isomorphic": TorchPruning("taylor", "isomorphic"),
    "TP Taylor, isomorphic, heads and hidden": TorchPruning("taylor", "isomorphic", bottleneck=True),
}
# Their residual stream is narrower, for which wdp-edge has no refit.
CUT_STREAM = (SMALLER, *(n for n, m in ONE_KNOB.items() if isinstance(m, TorchPruning) and not m.bottleneck))
PAPER = "WDPruning, repaired"
PEERS = (*ONE_KNOB, PAPER)


def propose(name: str, setting: Setting, share: float, images: int) -> tuple[Proposal, float]:
    """A peer's model at `share` of the dense latency, and what its file measured; raises KeyError for another name.

    images: all that the method may look at; the paper's spends as large a part of them on learning as ours does.
    """
    if name == PAPER:
        make = paper.maker(setting, share, round(setting.recipe.prune.learn.share * images))
    else:
        method = ONE_KNOB[name]

        def make(keep: float) -> Proposal:
            return method(setting, keep)

    return fit(make, lambda proposal: setting.share_of(proposal.model), share)


def control(setting: Setting) -> Proposal:
    """The dense model itself, so that gains of more training do not pass as gains of pruning."""
    return Proposal(copy.deepcopy(setting.dense))
