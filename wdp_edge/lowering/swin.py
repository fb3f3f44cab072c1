"""Swin Transformers rewritten for lowering: windows by reshapes of at most four dimensions, positions as constants.

The stream is a sequence, [1, H · W, C]. Shifts are slices put together again, so that nothing gathers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wdp_edge.lowering.parts import LoweredBlock, Norms, centre, lowered_norm, norm_after, plain_linear
from wdp_edge.models import attentions
from wdp_edge.models.families.swin import Swin, area, padded
from wdp_edge.models.layers import keep_channels

Size = tuple[int, int]


class LoweredUnit(nn.Module):
    """x / |x| of the channels of every head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean_square = plain_linear(torch.ones(1, width), torch.full((1,), 1e-24))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., head_dim] -> the same."""
        return x * torch.rsqrt(self.mean_square(x * x))


class LoweredWindowAttention(nn.Module):
    """Attention of a Swin block with its windows, shift and relative positions."""

    bias: Tensor
    cosine_scale: Tensor

    def __init__(self, block: Any) -> None:
        super().__init__()
        attn = block.attn
        self.heads, self.head_dim = int(attn.num_heads), attentions.head_dim(attn)
        self.size, self.filled = tuple(block.input_resolution), padded(block)
        self.fills = self.filled != self.size
        self.window, self.shift = tuple(block.window_size), tuple(block.shift_size)
        self.alone = area(self.window) == 1
        self.q, self.k, self.v = (plain_linear(w, b) for w, b in attentions.projections(attn))
        self.proj = plain_linear(attn.proj.weight, attn.proj.bias)
        # One constant as large as the scores: XNNPACK refuses some sums that would have to be broadcast.
        bias = attentions.window_bias(attn).detach().repeat(area(self.filled) // area(self.window), 1, 1)
        mask = block.get_attn_mask(dtype=bias.dtype)
        self.register_buffer("bias", bias if mask is None else bias + mask.repeat_interleave(self.heads, 0))
        self.cosine = hasattr(attn, "logit_scale")
        if self.cosine:
            self.register_buffer("cosine_scale", attentions.cosine_scale(attn).detach().reshape(1, 1, -1, 1))
            self.q_unit, self.k_unit = LoweredUnit(self.head_dim), LoweredUnit(self.head_dim)
        else:
            self.q.weight.mul_(float(attn.scale))
            self.q.bias.mul_(float(attn.scale))

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, H · W, C] -> the same."""
        windows = self.split(x)
        if self.alone:
            return self.join(self.proj(self.v(windows)))
        count, tokens, _ = windows.shape
        shape = (count, tokens, self.heads, self.head_dim)
        q, k, v = (layer(windows).reshape(shape) for layer in (self.q, self.k, self.v))
        if self.cosine:
            q, k = self.q_unit(q) * self.cosine_scale, self.k_unit(k)
        q, k, v = (self.by_head(x) for x in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2)) + self.bias
        out = torch.bmm(scores.softmax(-1), v)
        out = out.reshape(count, self.heads, tokens, self.head_dim).permute(0, 2, 1, 3)
        return self.join(self.proj(out.reshape(count, tokens, self.heads * self.head_dim)))

    def by_head(self, x: Tensor) -> Tensor:
        """x: [windows, N, heads, head_dim] -> [windows · heads, N, head_dim]."""
        return x.permute(0, 2, 1, 3).reshape(-1, x.shape[1], self.head_dim)

    def split(self, x: Tensor) -> Tensor:
        """x: [1, H · W, C] -> windows: [windows, tokens of one, C]."""
        picture = rolled(x.reshape(*self.size, -1), self.shift)
        if self.fills:
            down, right = (f - n for f, n in zip(self.filled, self.size, strict=True))
            picture = F.pad(picture, (0, 0, 0, right, 0, down))
        (height, width), (rows, columns) = self.filled, self.window
        parts = picture.reshape(height // rows, rows, width // columns, -1).permute(0, 2, 1, 3)
        return parts.reshape(-1, rows * columns, picture.shape[-1])

    def join(self, windows: Tensor) -> Tensor:
        """windows: [windows, tokens of one, C] -> [1, H · W, C]."""
        (height, width), (rows, columns) = self.filled, self.window
        parts = windows.reshape(height // rows, width // columns, rows, -1).permute(0, 2, 1, 3)
        picture = parts.reshape(height, width, -1)
        if self.fills:
            picture = picture[: self.size[0], : self.size[1]]
        back = tuple(-s for s in self.shift)
        return rolled(picture, back).reshape(1, self.size[0] * self.size[1], -1)


def rolled(picture: Tensor, shift: tuple[int, ...]) -> Tensor:
    """picture: [H, W, C], moved up and left by `shift`, around the edges."""
    for dim, by in enumerate(shift):
        if by:
            length = picture.shape[dim]
            start = by % length
            parts = (picture.narrow(dim, start, length - start), picture.narrow(dim, 0, start))
            picture = torch.cat(parts, dim)
    return picture


class LoweredMerging(nn.Module):
    """Patch merging: four neighbours side by side, a norm and a linear layer, in V2 in the other order."""

    def __init__(self, merging: Any, size: Size, norms: Norms, centred: bool) -> None:
        """size: of the picture that comes in. centred: whether what goes out has no mean over channels.

        What comes in keeps the mean of every token: one norm over four of them sees how these differ.
        """
        super().__init__()
        self.size, channels = size, merging.dim
        # timm puts columns before rows: rows first are one transposition less.
        order = torch.arange(4 * channels).reshape(2, 2, channels).transpose(0, 1).flatten()
        self.reduction = plain_linear(merging.reduction.weight[:, order], None)
        self.normed_after = _norm_after(merging)
        self.norm = merging.norm
        if not self.normed_after:
            keep_channels(self.norm, order)
            if norms == "folded":
                self.norm = lowered_norm(self.norm, [self.reduction], centred=False)
            if centred:
                centre(self.reduction)
        elif norms == "folded":
            self.norm = norm_after(merging.norm, self.reduction)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, H · W, C] -> [1, H/2 · W/2, 2 · C]."""
        picture = x.reshape(*self.size, -1)
        height, width = self.size
        if height % 2 or width % 2:
            picture = F.pad(picture, (0, 0, 0, width % 2, 0, height % 2))
        rows, columns = (height + 1) // 2, (width + 1) // 2
        parts = picture.reshape(rows, 2, columns, -1).permute(0, 2, 1, 3)
        x = parts.reshape(1, rows * columns, -1)
        merged: Tensor = self.norm(self.reduction(x)) if self.normed_after else self.reduction(self.norm(x))
        return merged


class LoweredSwin(nn.Module):
    """timm's `SwinTransformer` or `SwinTransformerV2` for one image."""

    pooling: Tensor

    def __init__(self, swin: Any, family: Swin, norms: Norms) -> None:
        super().__init__()
        folded = norms == "folded"
        self.blocks = nn.Sequential()
        self.centred, enter, parts = False, None, family.sublayers(swin)
        for number, stage in enumerate(swin.layers):
            if number:
                self.centred = folded and number == len(swin.layers) - 1 and can_centre_last(swin, family)
                merging = LoweredMerging(stage.downsample, _size(stage), norms, self.centred)
                enter = nn.Sequential(*(enter or ()), merging)
            for block in stage.blocks:
                place = len(self.blocks)
                attention, mlp = parts[2 * place : 2 * place + 2]
                attn: Any = LoweredWindowAttention(block)
                self.blocks.append(LoweredBlock(attention, mlp, self.centred, norms, attn, enter))
                if attn.alone:  # a token that sees itself alone takes all of its own value, whatever it asks
                    attn.q = attn.k = nn.Identity()
                enter = None
        self.leaving = enter or nn.Identity()
        self._take_head(swin, folded)
        embedding = swin.patch_embed
        if folded:
            embedding.norm = norm_after(embedding.norm, embedding.proj)
        self.embedding = nn.ModuleDict({"patch_embed": embedding})

    def _take_head(self, swin: Any, folded: bool) -> None:
        self.norm, self.fc_norm, self.head = swin.norm, nn.Identity(), swin.head.fc
        self.pool, self.size = swin.head.global_pool, tuple(swin.layers[-1].output_resolution)
        self.averages = swin.global_pool == "avg"
        if self.averages:
            tokens = self.size[0] * self.size[1]
            self.register_buffer("pooling", torch.full((1, 1, tokens), 1.0 / tokens))
            if folded and isinstance(swin.head.fc, nn.Linear):
                self.head = plain_linear(self.head.weight, self.head.bias)
                self.norm = lowered_norm(self.norm, [self.head], self.centred)

    def embed(self, images: Tensor) -> Tensor:
        """images: [1, 3, H, W] float32, or uint8 after `fold_normalization` -> [1, H · W, C]."""
        floats = images.float() if images.dtype == torch.uint8 else images
        picture: Tensor = self.embedding["patch_embed"](floats)
        return picture.flatten(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """images: as `embed` takes them -> logits: [1, classes] float32."""
        return self.classify(self.blocks(self.embed(images)))

    def classify(self, x: Tensor) -> Tensor:
        """x: [1, H · W, C] after the last block -> logits: [1, classes] float32."""
        x = self.norm(self.leaving(x))
        seen = torch.bmm(self.pooling, x) if self.averages else self.pool(x.reshape(1, *self.size, -1))
        return self.head(seen).reshape(1, -1)


def can_centre_last(swin: Any, family: Swin) -> bool:
    """Whether nothing sees the mean over channels of a token in the last stage: every reader is that token's LayerNorm.

    In earlier stages something does: a patch merging normalises four tokens together, or (V2) not at all.
    """
    places = 2 * len(swin.layers[-1].blocks)
    sublayers = family.sublayers(swin)
    readers = [s.norm for s in sublayers[len(sublayers) - places :] if s is not None] + [swin.norm]
    return not _norm_after(swin.layers[-1].downsample) and all(isinstance(n, nn.LayerNorm) for n in readers)


def _norm_after(merging: Any) -> bool:
    """Whether the norm comes after the linear layer, as in V2, instead of before it."""
    return bool(merging.norm.normalized_shape[0] == merging.out_dim)


def _size(stage: Any) -> Size:
    """Height and width of the picture before the stage's patch merging."""
    height, width = stage.input_resolution
    return int(height), int(width)
