"""What a user would take instead of pruning: a smaller model, distilled from the same dense one.

Its first weights are selected from the dense model's, evenly, the same channels everywhere: "Initializing Models with
Larger Ones", Xu, Chen, Vishniakov, Yin, Shen, Darrell, Liu and Liu, ICLR 2024. Weights of such a model that somebody
has trained on other images are not to be had without a download; the row says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from arena.setting import Proposal, Setting
from wdp_edge.models.spec import create

# At most a quarter of the blocks goes: a model of few wide blocks is what "depth only" shows.
LEAST_DEPTH = 0.75


def smaller(setting: Setting, keep: float) -> Proposal:
    """Fewer heads of the same width, as many channels in the stream, three quarters of the blocks or more."""
    dense, structure = setting.dense, setting.structure
    block = structure.blocks[0]
    heads, depth = shape_of(block.heads, structure.depth, keep)
    share = heads / block.heads
    width = int(share * structure.embed_dim)
    args = {**setting.spec.args, "embed_dim": width, "num_heads": heads, "depth": depth}
    model: Any = create(replace(setting.spec, args=args))
    inner, hidden = block.heads * block.head_dim, dense.blocks[0].mlp.fc1.out_features
    indices = {
        "stream": evenly(structure.embed_dim, width),
        "hidden": evenly(hidden, model.blocks[0].mlp.fc1.out_features),
        "inner": torch.cat([h * block.head_dim + torch.arange(block.head_dim) for h in evenly(block.heads, heads)]),
    }
    indices["qkv"] = torch.cat([part * inner + indices["inner"] for part in range(3)])
    own = dense.state_dict()
    model.load_state_dict({name: selected(name, own[name], indices) for name in model.state_dict()})
    return Proposal(model.eval(), tuple(indices["stream"].tolist()))


def shape_of(heads: int, depth: int, keep: float) -> tuple[int, int]:
    """Heads and blocks of the largest model of at most `keep` of the dense weights; of the smallest where none is."""
    shapes = [(h, d) for h in range(1, heads + 1) for d in range(-int(-LEAST_DEPTH * depth // 1), depth + 1)]

    def size(shape: tuple[int, int]) -> float:
        return (shape[0] / heads) ** 2 * shape[1] / depth

    return max((s for s in shapes if size(s) <= keep + 1e-9), key=size, default=min(shapes, key=size))


def evenly(units: int, count: int) -> Tensor:
    """`count` of `units` places, ascending: [count] int64."""
    return torch.arange(count) * units // count


# Which indices a tensor takes along its dimensions, by the end of its name.
_LAYOUT: Mapping[str, tuple[str, ...]] = {
    "attn.qkv.weight": ("qkv", "stream"),
    "attn.qkv.bias": ("qkv",),
    "attn.proj.weight": ("stream", "inner"),
    "mlp.fc1.weight": ("hidden", "stream"),
    "mlp.fc1.bias": ("hidden",),
    "mlp.fc2.weight": ("stream", "hidden"),
    "patch_embed.proj.weight": ("stream",),
    "head.bias": (),
}


def selected(name: str, tensor: Tensor, indices: Mapping[str, Tensor]) -> Tensor:
    """The part of the dense model's tensor that the smaller one's begins with."""
    kinds = next((kinds for end, kinds in _LAYOUT.items() if name.endswith(end)), None)
    if kinds is None:  # norms, scales, embeddings, the head: the stream is their last dimension
        return tensor.index_select(-1, indices["stream"])
    for dim, kind in enumerate(kinds):
        tensor = tensor.index_select(dim, indices[kind])
    return tensor
