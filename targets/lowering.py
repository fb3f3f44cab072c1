"""A Vision Transformer rewritten for lowering: the same function, in a form that becomes one delegate.

Folded into the weights, all exactly: LayerScale into `proj` and `fc2`; the affine part of every LayerNorm
into the linear layers that read it; the attention scale into `q`; and the centring of every LayerNorm into
whatever writes the residual stream (a LayerNorm does not see the mean of its input, so the stream may as well
have none). What is left of a LayerNorm is x / rms(x), which delegates can run where `native_layer_norm` stays
outside. docs/lowering.md has figures.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.vit import check_supported, embed, set_fused_attention, tokens_of


def lower(model: nn.Module) -> nn.Module:
    """An export-friendly copy, in eval mode: one image [1, 3, H, W] float32 -> logits [1, classes] float32.

    A ViT that `wdp_edge.models.vit` knows, cut or not, is rewritten; any other module is copied, with its
    timm attentions switched to plain matrix products (the fused kernel decomposes into operators that no
    delegate takes).
    """
    lowered = copy.deepcopy(model).eval().requires_grad_(False)
    set_fused_attention(lowered, False)
    try:
        check_supported(lowered, "model")
    except InputError:
        return lowered
    return LoweredViT(lowered).eval()


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight: [out, in], bias: [out] or None; always gets a bias, so that a norm's shift can be folded in."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    value = torch.zeros(weight.shape[0]) if bias is None else bias.detach().clone()
    layer.bias = nn.Parameter(value, requires_grad=False)
    return layer


def fold_affine(norm: Any, readers: list[nn.Linear]) -> None:
    """Moves weight and bias of a LayerNorm into the linear layers that read its output."""
    for reader in readers:
        if norm.bias is not None:
            reader.bias.add_(reader.weight @ norm.bias)
        if norm.weight is not None:
            reader.weight.mul_(norm.weight)


def fold_scale(layer_scale: Any, writer: nn.Linear) -> None:
    """Moves a LayerScale into the linear layer before it."""
    if not isinstance(layer_scale, nn.Identity):
        writer.weight.mul_(layer_scale.gamma[:, None])
        writer.bias.mul_(layer_scale.gamma)


def centre(writer: nn.Linear | nn.Conv2d) -> None:
    """Removes the mean over output channels from what this layer writes."""
    writer.weight.sub_(writer.weight.mean(0, keepdim=True))
    if writer.bias is not None:
        writer.bias.sub_(writer.bias.mean())


class LoweredNorm(nn.Module):
    """A LayerNorm without affine part: x / rms(x) of a centred x.

    The mean of squares is a product with a constant row, eps its bias: one operator every delegate knows.
    """

    def __init__(self, width: int, eps: float, centred: bool) -> None:
        super().__init__()
        row = torch.full((1, width), 1.0 / width)
        self.mean_square = plain_linear(row, torch.full((1,), eps))
        self.mean = None if centred else plain_linear(row, None)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        if self.mean is not None:
            x = x - self.mean(x)
        return x * torch.rsqrt(self.mean_square(x * x))


class LoweredAttention(nn.Module):
    """timm `Attention` with separate q, k and v, 3-D matrix products and the scale folded into q."""

    def __init__(self, attn: Any) -> None:
        super().__init__()
        self.heads, self.head_dim = int(attn.num_heads), int(attn.head_dim)
        biases = (None,) * 3 if attn.qkv.bias is None else attn.qkv.bias.chunk(3)
        self.q, self.k, self.v = (plain_linear(w, b) for w, b in zip(attn.qkv.weight.chunk(3), biases, strict=True))
        self.proj = plain_linear(attn.proj.weight, attn.proj.bias)
        self.q_norm, self.k_norm = attn.q_norm, attn.k_norm
        self.scale = float(attn.scale)
        # A norm after q undoes any factor before it, so with qk_norm the scale stays in the graph.
        self.scale_in_graph = not isinstance(self.q_norm, nn.Identity)
        if not self.scale_in_graph:
            self.q.weight.mul_(self.scale)
            self.q.bias.mul_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        tokens, shape = x.shape[1], (x.shape[1], self.heads, self.head_dim)
        # All three products come before any reshape: the partitioner merges greedily in graph order, and a
        # reshape between two products that share one dynamic quantization would split the delegate in two.
        q, k, v = self.q(x), self.k(x), self.v(x)
        q, k = self.q_norm(q.reshape(shape)), self.k_norm(k.reshape(shape))
        if self.scale_in_graph:
            q = q * self.scale
        weights = torch.bmm(q.permute(1, 0, 2), k.permute(1, 2, 0)).softmax(-1)
        out = torch.bmm(weights, v.reshape(shape).permute(1, 0, 2))
        return self.proj(out.permute(1, 0, 2).reshape(1, tokens, self.heads * self.head_dim))


class LoweredBlock(nn.Module):
    """timm `Block` with LayerScale and the affine parts of its norms folded away."""

    def __init__(self, block: Any, centred: bool) -> None:
        super().__init__()
        self.attn = LoweredAttention(block.attn)
        self.fc1 = plain_linear(block.mlp.fc1.weight, block.mlp.fc1.bias)
        self.fc2 = plain_linear(block.mlp.fc2.weight, block.mlp.fc2.bias)
        self.act = block.mlp.act
        self.norm1 = lowered_norm(block.norm1, [self.attn.q, self.attn.k, self.attn.v], centred)
        self.norm2 = lowered_norm(block.norm2, [self.fc1], centred)
        fold_scale(block.ls1, self.attn.proj)
        fold_scale(block.ls2, self.fc2)
        if centred:
            centre(self.attn.proj)
            centre(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


def lowered_norm(norm: nn.Module, readers: list[nn.Linear], centred: bool) -> nn.Module:
    """The norm's lowered form; its affine part goes into `readers`. Norms of other kinds stay as they are."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    fold_affine(norm, readers)
    return LoweredNorm(norm.normalized_shape[0], norm.eps, centred)


class LoweredViT(nn.Module):
    """timm `VisionTransformer` for one image; a class token is picked before the final norm, not after it."""

    pooling: Tensor

    def __init__(self, vit: Any) -> None:
        super().__init__()
        centred = can_centre(vit)
        self.blocks = nn.Sequential(*(LoweredBlock(b, centred) for b in vit.blocks))
        self.head = vit.head
        self.norm, self.fc_norm = vit.norm, vit.fc_norm
        if len(final_norms(vit)) == 1 and isinstance(vit.head, nn.Linear) and pools_linearly(vit):
            self.head = plain_linear(vit.head.weight, vit.head.bias)
            lowered = lowered_norm(final_norms(vit)[0], [self.head], centred)
            if isinstance(vit.norm, nn.Identity):
                self.fc_norm = lowered
            else:
                self.norm = lowered
        if vit.global_pool == "avg":
            # A mean over tokens is a product with constants; `mean` itself would stay outside the delegate.
            self.register_buffer("pooling", vit.pool(torch.eye(tokens_of(vit))[None])[:, None])
        if centred:
            centre_embedding(vit)
        vit.blocks = nn.Sequential()
        self.embedding = vit

    def forward(self, images: Tensor) -> Tensor:
        """images: [1, 3, H, W] float32 -> logits: [1, classes] float32."""
        x = self.blocks(embed(self.embedding, images))
        if self.embedding.global_pool == "token":
            x = self.norm(x[:, :1])
        elif self.embedding.global_pool == "avg":
            x = torch.bmm(self.pooling, self.norm(x))
        else:
            x = self.embedding.pool(self.norm(x))
        return self.head(self.fc_norm(x)).reshape(1, -1)


def final_norms(vit: Any) -> list[nn.Module]:
    return [n for n in (vit.norm, vit.fc_norm) if not isinstance(n, nn.Identity)]


def pools_linearly(vit: Any) -> bool:
    return vit.global_pool in ("token", "avg")


def can_centre(vit: Any) -> bool:
    """Whether every reader of the residual stream is a LayerNorm and every writer can be centred."""
    readers = [n for b in vit.blocks for n in (b.norm1, b.norm2)] + final_norms(vit)
    plain = isinstance(vit.norm_pre, nn.Identity) and isinstance(vit.patch_embed.norm, nn.Identity)
    one = len(final_norms(vit)) == 1 and pools_linearly(vit)
    return plain and one and all(isinstance(n, nn.LayerNorm) for n in readers)


def centre_embedding(vit: Any) -> None:
    """Centres everything that is added up before the first block."""
    centre(vit.patch_embed.proj)
    for tokens in (vit.cls_token, vit.reg_token, vit.pos_embed):
        if tokens is not None:
            tokens.sub_(tokens.mean(-1, keepdim=True))
