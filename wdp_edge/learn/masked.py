"""A model under masks: what the cut model computes, with all tensors still at their full width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from wdp_edge.models import vit

BlockMasks = Sequence[Tensor] | None


class MaskedForward:
    """Runs a model under masks of ones and zeros.

    heads, hidden: per block [heads] and [hidden]. Heads are silenced before `proj` (one mask silences query, key and
    value together), hidden units before `fc2` (a norm over them sees the kept ones only); a mask of zeros alone
    silences the whole sub-layer, biases included.
    head_channels: per block [head_dim], for q and v of all heads; a channel of k that no q reads is as good as gone.
    Were k masked as well, no gradient would say what a silenced channel of both is worth.
    Use as a context manager; inside, set the masks (`Masks.masks`) before each forward pass. With None all stays.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.heads: BlockMasks = None
        self.hidden: BlockMasks = None
        self.head_channels: BlockMasks = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> MaskedForward:
        parts = vit.sublayers(self.model)
        for number, sublayer in enumerate(parts):
            if sublayer is None:
                continue
            index, writer, module = number // 2, sublayer.writer, sublayer.module
            kind = "hidden" if number % 2 else "heads"
            self._handles.append(writer.register_forward_pre_hook(self._mask_units(kind, index, sublayer.unit)))
            self._handles.append(module.register_forward_hook(self._silence(kind, index)))
            if kind == "heads" and vit.fixed_heads(self.model) is None:
                hook = self._mask_channels(index, module.num_heads)
                self._handles.append(sublayer.readers[0].register_forward_hook(hook))
            if kind == "hidden" and not isinstance(module.norm, nn.Identity):
                self._handles.append(module.norm.register_forward_hook(self._mask_hidden_norm(index)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _mask_channels(self, index: int, heads: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            mask = _of(self.head_channels, index)
            if mask is None:
                return None
            own = mask.to(output.dtype).repeat(heads)
            return output * torch.cat([own, torch.ones_like(own), own])

        return hook

    def _mask_units(self, kind: str, index: int, unit: int) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor]) -> Tensor | None:
            mask = _of(getattr(self, kind), index)
            return None if mask is None else args[0] * mask.to(args[0].dtype).repeat_interleave(unit)

        return hook

    def _mask_hidden_norm(self, index: int) -> Any:
        def hook(norm: nn.Module, args: tuple[Tensor], _: Tensor) -> Tensor | None:
            mask = _of(self.hidden, index)
            return None if mask is None or not mask.any() else masked_norm(norm, args[0], mask)

        return hook

    def _silence(self, kind: str, index: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            mask = _of(getattr(self, kind), index)
            return torch.zeros_like(output) if mask is not None and not mask.any() else None

        return hook


def masked_norm(norm: Any, x: Tensor, mask: Tensor) -> Tensor:
    """LayerNorm over the channels that mask, [D], keeps; zero elsewhere. x: [..., D]."""
    kept = mask.to(x.dtype)
    x = x * kept
    centred = (x - x.sum(-1, keepdim=True) / kept.sum()) * kept
    variance = centred.square().sum(-1, keepdim=True) / kept.sum()
    normed = centred / (variance + norm.eps).sqrt()
    if norm.weight is not None:
        normed = normed * norm.weight
    return normed * kept if norm.bias is None else (normed + norm.bias) * kept


def _of(masks: BlockMasks, index: int) -> Tensor | None:
    return None if masks is None else masks[index]
