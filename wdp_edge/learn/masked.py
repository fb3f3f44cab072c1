"""A model under masks: what the cut model computes, with all tensors still at their full width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wdp_edge.models.stream import norms_of

Masks = Sequence[Tensor] | None


class MaskedForward:
    """Runs a timm ViT under masks of ones and zeros.

    heads, hidden: per block [heads] and [hidden]. Heads are silenced before `proj` (one mask silences query, key and
    value together), hidden units before `fc2`; a mask of zeros alone silences the whole sub-layer, biases included.
    head_channels: per block [head_dim], for the q, k and v of all heads. stream: [D]; norms see these channels only.
    Use as a context manager; inside, set the masks (see `Masks.masks`) before each forward pass. With None all stays.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.heads: Masks = None
        self.hidden: Masks = None
        self.head_channels: Masks = None
        self.stream: Tensor | None = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> MaskedForward:
        for index, block in enumerate(self.model.blocks):
            if (attn := block.attn) is not None:
                self._handles.append(attn.qkv.register_forward_hook(self._mask_channels(index, attn.num_heads)))
                self._handles.append(attn.proj.register_forward_pre_hook(self._mask_heads(index, attn.head_dim)))
                self._handles.append(attn.register_forward_hook(self._silence("heads", index)))
            if (mlp := block.mlp) is not None:
                self._handles.append(mlp.fc2.register_forward_pre_hook(self._mask_hidden(index)))
                self._handles.append(mlp.register_forward_hook(self._silence("hidden", index)))
        self._handles += [norm.register_forward_hook(self._mask_norm) for norm in norms_of(self.model)]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _mask_channels(self, index: int, heads: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            mask = _of(self.head_channels, index)
            return None if mask is None else output * mask.to(output.dtype).repeat(3 * heads)

        return hook

    def _mask_heads(self, index: int, head_dim: int) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor]) -> Tensor | None:
            mask = _of(self.heads, index)
            return None if mask is None else args[0] * mask.to(args[0].dtype).repeat_interleave(head_dim)

        return hook

    def _mask_hidden(self, index: int) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor]) -> Tensor | None:
            mask = _of(self.hidden, index)
            return None if mask is None else args[0] * mask.to(args[0].dtype)

        return hook

    def _silence(self, kind: str, index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            mask = _of(getattr(self, kind), index)
            return torch.zeros_like(output) if mask is not None and not mask.any() else None

        return hook

    def _mask_norm(self, norm: Any, args: tuple[Tensor], _: Tensor) -> Tensor | None:
        """LayerNorm over the kept channels; zero elsewhere."""
        if self.stream is None:
            return None
        kept = self.stream.to(args[0].dtype)
        x = args[0] * kept
        centred = (x - x.sum(-1, keepdim=True) / kept.sum()) * kept
        variance = centred.square().sum(-1, keepdim=True) / kept.sum()
        normed = centred / (variance + norm.eps).sqrt()
        if norm.weight is not None:
            normed = normed * norm.weight
        return normed * kept if norm.bias is None else (normed + norm.bias) * kept


def _of(masks: Masks, index: int) -> Tensor | None:
    return None if masks is None else masks[index]
