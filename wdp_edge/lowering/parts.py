"""Norms, attentions and MLPs rewritten for lowering; `wdp_edge.lowering.vit` says what and why."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from wdp_edge.models import attentions, mlps
from wdp_edge.models.layers import keep_channels
from wdp_edge.models.sublayers import Sublayer

Norms = Literal["folded", "native"]


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight: [out, in], bias: [out] or None; always gets a bias, so that a norm's shift can be folded in."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    value = torch.zeros(weight.shape[0]) if bias is None else bias.detach().clone()
    layer.bias = nn.Parameter(value, requires_grad=False)
    return layer


def fold_affine(norm: Any, readers: list[nn.Linear]) -> None:
    """Moves bias and weight of a LayerNorm into the linear layers that read its output."""
    for reader in readers:
        if norm.bias is not None:
            reader.bias.add_(reader.weight @ norm.bias)
        if norm.weight is not None:
            reader.weight.mul_(norm.weight)


def centre(writer: nn.Linear | nn.Conv2d) -> None:
    """Removes the mean over output channels from what this layer writes."""
    writer.weight.sub_(writer.weight.mean(0, keepdim=True))
    if writer.bias is not None:
        writer.bias.sub_(writer.bias.mean())


def norm_after(norm: Any, writer: nn.Linear | nn.Conv2d) -> nn.Module:
    """The lowered form of a norm right after a layer that nothing else reads; other kinds stay as they are."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    centre(writer)
    return LoweredNorm(norm.normalized_shape[0], norm.eps, True, norm.weight, norm.bias)


def finish(writer: nn.Linear, gamma: Tensor | None, centred: bool) -> None:
    """What a layer that writes into the stream takes in: the LayerScale after it, and the centring."""
    if gamma is not None:
        writer.weight.mul_(gamma[:, None])
        writer.bias.mul_(gamma)
    if centred:
        centre(writer)


class LoweredNorm(nn.Module):
    """A LayerNorm without affine part: x / rms(x) of a centred x.

    Times `scale` and plus `shift` where nothing but the stream, or a convolution, reads the norm.
    The mean of squares is a product with a constant row, eps its bias: one operator every delegate knows.
    """

    def __init__(
        self, width: int, eps: float, centred: bool, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift
        row = torch.full((1, width), 1.0 / width)
        self.mean_square = plain_linear(row, torch.full((1,), eps))
        self.mean = None if centred else plain_linear(row, None)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        if self.mean is not None:
            x = x - self.mean(x)
        normed = x * torch.rsqrt(self.mean_square(x * x))
        if self.scale is not None:
            normed = normed * self.scale
        return normed if self.shift is None else normed + self.shift


def first_tokens(x: Tensor, count: int | None) -> Tensor:
    """x: [1, N, D] -> [1, count, D]; x itself when None."""
    return x if count is None else x[:, :count]


def lowered_norm(norm: nn.Module, readers: list[nn.Linear], centred: bool) -> nn.Module:
    """The norm's lowered form; its affine part goes into `readers`. Norms of other kinds stay as they are."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    fold_affine(norm, readers)
    return LoweredNorm(norm.normalized_shape[0], norm.eps, centred)


class LoweredRotation(nn.Module):
    """A rotary embedding of q or k whose channels stand in two halves; tokens without a place are left alone."""

    cos: Tensor
    sin: Tensor

    def __init__(self, rope: Tensor, prefix: int, order: Tensor) -> None:
        """rope: [patches, 2 · head_dim], sines and cosines; prefix: tokens before the patches; order: of channels."""
        super().__init__()
        sin, cos = (part[:, order][:, : len(order) // 2].detach() for part in rope.chunk(2, -1))
        for name, values, still in (("cos", cos, torch.ones), ("sin", sin, torch.zeros)):
            before = still(prefix, values.shape[1], dtype=values.dtype)
            self.register_buffer(name, torch.cat([before, values])[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, heads, head_dim] -> the same."""
        half = x.shape[-1] // 2
        first, second = x[..., :half], x[..., half:]
        return torch.cat([first * self.cos - second * self.sin, second * self.cos + first * self.sin], -1)


class LoweredAttention(nn.Module):
    """A timm attention with separate q, k and v, 3-D matrix products and the scale folded into q.

    rope: [patches, 2 · head_dim], or None where there is no rotary embedding. read: how many tokens at the beginning
    ask the others, all of them prefix tokens; None: all do.
    """

    read: int | None = None

    def __init__(self, attn: Any, rope: Tensor | None = None) -> None:
        super().__init__()
        self.heads, self.head_dim = int(attn.num_heads), attentions.head_dim(attn)
        self.q, self.k, self.v = (plain_linear(w, b) for w, b in attentions.projections(attn))
        self.proj = plain_linear(attn.proj.weight, attn.proj.bias)
        self.q_norm, self.k_norm = attn.q_norm, attn.k_norm
        self.rotation = None if rope is None else self._rotation(attn, rope.to(self.q.weight.dtype))
        self.scale = float(attn.scale)
        # A norm after q undoes any factor before it, so with qk_norm the scale stays in the graph.
        self.scale_in_graph = not isinstance(self.q_norm, nn.Identity)
        if not self.scale_in_graph:
            self.q.weight.mul_(self.scale)
            self.q.bias.mul_(self.scale)

    def _rotation(self, attn: Any, rope: Tensor) -> LoweredRotation:
        """Puts the channels of q and k that turn together into two halves: q·k does not see their order."""
        order = torch.arange(self.head_dim)
        if not attn.rotate_half:
            order = torch.cat([order[0::2], order[1::2]])
            rows = attentions.inner_rows(attn, torch.arange(self.heads), order)
            for layer in (self.q, self.k):
                layer.weight.copy_(layer.weight[rows])
                layer.bias.copy_(layer.bias[rows])
            for norm in (self.q_norm, self.k_norm):
                if not isinstance(norm, nn.Identity):
                    keep_channels(norm, order)
        return LoweredRotation(rope, attn.num_prefix_tokens, order)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D], or [1, read, D]."""
        asking = self.read or x.shape[1]
        shape = (x.shape[1], self.heads, self.head_dim)
        # All three products come before any reshape: the partitioner merges greedily in graph order, and a
        # reshape between two products that share one dynamic quantization would split the delegate in two.
        q, k, v = self.q(first_tokens(x, self.read)), self.k(x), self.v(x)
        q, k = self.q_norm(q.reshape(asking, self.heads, self.head_dim)), self.k_norm(k.reshape(shape))
        if self.rotation is not None:
            # Tokens of the prefix have no place to be turned by.
            q, k = q if self.read else self.rotation(q), self.rotation(k)
        if self.scale_in_graph:
            q = q * self.scale
        weights = torch.bmm(q.permute(1, 0, 2), k.permute(1, 2, 0)).softmax(-1)
        out = torch.bmm(weights, v.reshape(shape).permute(1, 0, 2))
        return self.proj(out.permute(1, 0, 2).reshape(1, asking, self.heads * self.head_dim))


class LoweredBlock(nn.Module):
    """A block with LayerScale and the affine parts of its norms folded away; it may lack a sub-layer.

    An MLP with a gate has `fc1_g` and `fc1_x` in place of `fc1`.
    """

    read: int | None = None

    def __init__(
        self,
        attention: Sublayer | None,
        mlp: Sublayer | None,
        centred: bool,
        norms: Norms,
        attn: nn.Module | None = None,
        enter: nn.Module | None = None,
    ) -> None:
        """attn: the lowered attention, in families with one of their own. enter: what comes before the block."""
        super().__init__()
        self.enter = enter or nn.Identity()
        self.has_attention, self.has_mlp = attention is not None, mlp is not None
        if attention is not None:
            self._take_attention(
                attention, attn or LoweredAttention(attention.module, rope_of(attention)), centred, norms
            )
        if mlp is not None:
            self._take_mlp(mlp, centred, norms)

    def _take_attention(self, attention: Sublayer, attn: Any, centred: bool, norms: Norms) -> None:
        self.attn, self.norm1 = attn, attention.norm
        self.post_norm1 = attention.post_norm or nn.Identity()
        if norms == "folded":
            # Tokens that fill windows up are zero after the norm: there its affine part has to stay.
            if not getattr(attn, "fills", False):
                self.norm1 = lowered_norm(attention.norm, [attn.q, attn.k, attn.v], centred)
            self.post_norm1 = norm_after(self.post_norm1, attn.proj)
        finish(attn.proj, attention.gamma, centred)

    def _take_mlp(self, mlp: Sublayer, centred: bool, norms: Norms) -> None:
        readers = [plain_linear(*half) for half in mlps.halves(mlp.module)]
        self.gated = len(readers) == 2
        if self.gated:
            self.fc1_g, self.fc1_x = readers
        else:
            (self.fc1,) = readers
        self.fc2 = plain_linear(mlp.module.fc2.weight, mlp.module.fc2.bias)
        self.act, self.inner_norm = mlp.module.act, mlp.module.norm
        self.norm2, self.post_norm2 = mlp.norm, mlp.post_norm or nn.Identity()
        if norms == "folded":
            self.norm2 = lowered_norm(mlp.norm, readers, centred)
            self.inner_norm = lowered_norm(self.inner_norm, [self.fc2], centred=False)
            self.post_norm2 = norm_after(self.post_norm2, self.fc2)
        finish(self.fc2, mlp.gamma, centred)

    def read_first(self, tokens: int | None) -> None:
        """From this attention on only `tokens` at the beginning of the sequence are computed; None: all are."""
        self.read = self.attn.read = tokens

    def attend(self, x: Tensor) -> Tensor:
        """The first sub-layer, and what comes before it. x: [1, N, D] -> [1, N, D], or what `read_first` left of it."""
        x = self.enter(x)
        if not self.has_attention:
            return x
        return first_tokens(x, self.read) + self.post_norm1(self.attn(self.norm1(x)))

    def transform(self, x: Tensor) -> Tensor:
        """The second sub-layer. x: [1, N, D] -> [1, N, D]."""
        if not self.has_mlp:
            return x
        return x + self.post_norm2(self.fc2(self.inner_norm(self.hidden(self.norm2(x)))))

    def hidden(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> activations: [1, N, hidden]."""
        if self.gated:
            gate, value = self.fc1_g(x), self.fc1_x(x)
            return self.act(gate) * value
        activated: Tensor = self.act(self.fc1(x))
        return activated

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        return self.transform(self.attend(x))


def rope_of(attention: Sublayer) -> Tensor | None:
    """What rotates q and k of an attention: [patches, 2 · head_dim], or None."""
    rope: Tensor | None = getattr(attention.inner, "keywords", {}).get("rope")
    return rope
