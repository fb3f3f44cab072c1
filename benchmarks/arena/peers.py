"""Torch-Pruning 1.6.1 on a timm ViT, as its own examples use it (examples/transformers/prune_timm_vit.py), and as the
authors of Isomorphic Pruning do (VainF/Isomorphic-Pruning, prune.py): heads, channels of heads, hidden units and the
residual width, by one ratio; the channels of heads by half of it.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Mlp
from timm.layers.attention import Attention
from torch import nn

from arena.setting import Proposal, Setting

TAYLOR_BATCHES, TAYLOR_BATCH = 10, 64
ROUND_TO = 8


@dataclass(frozen=True)
class TorchPruning:
    """importance: random, magnitude or taylor. scope: uniform, global or isomorphic. bottleneck: heads and hidden
    units only, the residual width and the channels of heads stay.
    """

    importance: str
    scope: str
    bottleneck: bool = False

    def __call__(self, setting: Setting, keep: float) -> Proposal:
        """The dense model with about `keep` of every dimension."""
        import torch_pruning as tp

        model = copy.deepcopy(setting.dense)
        importance = {
            "random": tp.importance.RandomImportance,
            "magnitude": tp.importance.GroupMagnitudeImportance,
            "taylor": tp.importance.GroupTaylorImportance,
        }[self.importance]()
        attentions = [m for m in model.modules() if isinstance(m, Attention)]
        torch.manual_seed(setting.recipe.prune.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it prunes position, class token and LayerScale with the rest
            pruner = tp.pruner.BasePruner(
                model,
                setting.data.example(),
                importance=importance,
                global_pruning=self.scope != "uniform",
                isomorphic=self.scope == "isomorphic",
                pruning_ratio=1 - keep,
                pruning_ratio_dict={} if self.bottleneck else dict.fromkeys(attentions, (1 - keep) / 2),
                ignored_layers=self._ignored(model),
                num_heads={m.qkv: m.num_heads for m in attentions},
                prune_num_heads=True,
                prune_head_dims=not self.bottleneck,
                head_pruning_ratio=1 - keep,
                round_to=ROUND_TO,
            )
        images = 0
        if self.importance == "taylor":
            images = TAYLOR_BATCHES * TAYLOR_BATCH
            gradients = setting.gradients(TAYLOR_BATCHES, TAYLOR_BATCH)
            for name, parameter in model.named_parameters():
                parameter.grad = gradients[name].clone()
        for group in pruner.step(interactive=True):
            group.prune()
        model.zero_grad(set_to_none=True)
        settle(model, {m: pruner.num_heads[m.qkv] for m in attentions})
        return Proposal(model, kept_channels(setting.dense, model), images)

    def _ignored(self, model: Any) -> list[nn.Module]:
        ignored: list[nn.Module] = [model.head]
        if self.bottleneck:
            ignored.append(model.patch_embed.proj)
            ignored += [m.fc2 for m in model.modules() if isinstance(m, Mlp)]
            ignored += [m.proj for m in model.modules() if isinstance(m, Attention)]
        return ignored


def settle(model: Any, heads: dict[Any, int]) -> None:
    """timm's own attributes, after the tensors have changed.

    heads: as Torch-Pruning counts them. A block all of whose heads are to go is counted as having none, and keeps all.
    """
    for attention, count in heads.items():
        attention.num_heads = count or attention.num_heads
        attention.attn_dim = attention.proj.in_features
        attention.head_dim = attention.attn_dim // attention.num_heads
        attention.scale = attention.head_dim**-0.5
    model.embed_dim = model.num_features = model.head_hidden_size = model.head.in_features
    model.eval()


def kept_channels(dense: Any, small: Any) -> tuple[int, ...] | None:
    """Residual channels that are left, found by their rows of the patch embedding; None: all."""
    rows, left = (m.patch_embed.proj.weight.detach().flatten(1) for m in (dense, small))
    if len(left) == len(rows):
        return None
    found = (left[:, None] == rows[None]).all(-1).float().argmax(1)
    if not torch.equal(rows[found], left):
        raise ValueError("the patch embedding of the pruned model has rows that the dense one has not")
    return tuple(found.tolist())
