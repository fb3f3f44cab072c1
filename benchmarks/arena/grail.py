"""GRAIL's compensation of any selector's structure, after its paper: Tang, Wang, Thiele and Saukh, arXiv 2602.23795.

The hidden activations X of the dense sub-layer are reconstructed from those that are kept by ridge regression,
X ~ X_kept M, M = G[:, kept] (G[kept, kept] + a mean(diag) I)^-1 with G the Gram matrix of X, and M is merged into the
weights of the layer that reads them. One pass of the dense model over 128 images, after which the paper sees no gain.
The ridge's weight a is not given for ViTs in what we could read: 1e-3 here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from arena.setting import Proposal, Setting
from wdp_edge.models.surgery import Kept, cut

IMAGES, RIDGE = 128, 1e-3
_BATCH = 32


def compensated(setting: Setting, kept: Kept) -> Proposal:
    """The dense model cut to `kept`, with its `proj` and `fc2` rebuilt."""
    small: Any = cut(setting.dense, kept)
    grams = gram_matrices(setting.dense, setting.data.prepare(setting.data.calibration[:IMAGES]))
    for dense, block, heads, hidden, (attention, mlp) in zip(
        setting.dense.blocks, small.blocks, kept.heads, kept.hidden, grams, strict=False
    ):
        channels = [h * dense.attn.head_dim + c for h in heads for c in range(dense.attn.head_dim)]
        merge(dense.attn.proj, block.attn.proj, attention, channels)
        merge(dense.mlp.fc2, block.mlp.fc2, mlp, hidden)
    return Proposal(small, images=IMAGES)


@torch.no_grad()
def gram_matrices(model: Any, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Per block those of what `proj` and what `fc2` reads: [inner, inner] and [hidden, hidden] float64."""
    readers = [layer for block in model.blocks for layer in (block.attn.proj, block.mlp.fc2)]
    sums = [torch.zeros(r.in_features, r.in_features, dtype=torch.float64) for r in readers]

    def note(total: Tensor) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].flatten(0, -2)
            total.add_(x.T @ x)

        return add

    hooks = [r.register_forward_pre_hook(note(total)) for r, total in zip(readers, sums, strict=True)]
    try:
        for part in images.split(_BATCH):
            model(part)
    finally:
        for hook in hooks:
            hook.remove()
    return list(zip(sums[0::2], sums[1::2], strict=True))


@torch.no_grad()
def merge(dense: nn.Linear, small: nn.Linear, gram: Tensor, kept: Sequence[int]) -> None:
    """Gives `small`, which reads the kept inputs of `dense`, the weights that reconstruct the others."""
    index = torch.tensor(list(kept))
    own = gram[index][:, index]
    ridge = RIDGE * own.diagonal().mean() * torch.eye(len(kept), dtype=own.dtype)
    # M^T solves (G_kk + ridge) M^T = G_k:, so W' = W M.
    rebuilt = torch.linalg.solve(own + ridge, gram[index])
    small.weight.copy_((dense.weight.double() @ rebuilt.T).to(small.weight.dtype))
