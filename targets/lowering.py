"""A Vision Transformer rewritten for lowering: the same function, in a form that becomes one delegate.

Folded into the weights, all exactly: LayerScale into `proj` and `fc2`; the affine part of every LayerNorm
into the linear layers that read it; the attention scale into `q`; and the centring of every LayerNorm into
whatever writes the residual stream (a LayerNorm does not see the mean of its input, so the stream may as well
have none). What is left of a LayerNorm is x / rms(x), which delegates can run where `native_layer_norm` stays
outside; a `SmoothedNorm` also keeps its weight. docs/lowering.md has figures.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.prefix import Prefix
from wdp_edge.models.smoothed import SmoothedNorm
from wdp_edge.models.vit import check_known, embed, set_fused_attention, tokens_of

Norms = Literal["folded", "native"]
_NORM_PARTS = ("mean_square", "mean")
_NAMES_SHOWN = 6
_IN_PREFIX = "vit."  # where a `LoweredPrefix` has its model


def lower(model: nn.Module, norms: Norms = "folded") -> nn.Module:
    """An export-friendly copy, in eval mode: one image [1, 3, H, W] float32 -> logits [1, classes] float32.

    A ViT that `wdp_edge.models.vit` knows, cut or not, is rewritten; any other module is copied, with its
    timm attentions switched to plain matrix products (the fused kernel decomposes into operators that no
    delegate takes).
    norms: "folded" makes x / rms(x) of every LayerNorm, for delegates that do not take `native_layer_norm`; "native"
    leaves them as they are, for runtimes that have a kernel of their own.
    """
    lowered: Any = copy.deepcopy(model).eval().requires_grad_(False)
    set_fused_attention(lowered, False)
    if isinstance(lowered, Prefix):
        return LoweredPrefix(LoweredViT(lowered.vit, norms), lowered.sublayers).eval()
    try:
        check_known(lowered, "model")
    except InputError:
        return lowered
    return LoweredViT(lowered, norms).eval()


def output_name(lowered: nn.Module) -> str:
    """What files call the output: "embedding" where a ViT's head has no weights, else "logits"."""
    head = lowered.head if isinstance(lowered, LoweredViT) else None
    return "logits" if head is None or isinstance(head, nn.Linear) else "embedding"


def quantized_layers(lowered: nn.Module) -> list[str]:
    """Names of the layers that integer precisions quantize, in the order they run.

    q, k and v are three layers here; `ExportOptions.keep_float` may name them "blocks.0.attn.qkv" together.
    """
    names = [name for name, module in lowered.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return sorted((n for n in names if not n.endswith(_NORM_PARTS)), key=lambda n: not n.startswith("embedding"))


def check_kept(lowered: nn.Module, kept: Sequence[str]) -> None:
    """Raises InputError for names in `keep_float` that are none of the model's layers; a `Prefix` lacks some."""
    if isinstance(lowered, LoweredPrefix):
        return
    layers = quantized_layers(lowered)
    if unknown := [name for name in kept if not any(matches(layer, (name,)) for layer in layers)]:
        raise InputError(
            f"keep_float names layers that the model does not have: {', '.join(unknown)}.",
            f"Its layers are called {', '.join(layers[:_NAMES_SHOWN])} and so on.",
        )


def matches(name: str, kept: Sequence[str]) -> bool:
    """Whether a lowered layer, of a whole model or of a `Prefix`, is one of those that `keep_float` names."""
    name = name.removeprefix(_IN_PREFIX)
    stem, _, last = name.rpartition(".")
    return name in kept or (last in ("q", "k", "v") and f"{stem}.qkv" in kept)


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight: [out, in], bias: [out] or None; always gets a bias, so that a norm's shift can be folded in."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    value = torch.zeros(weight.shape[0]) if bias is None else bias.detach().clone()
    layer.bias = nn.Parameter(value, requires_grad=False)
    return layer


def fold_affine(norm: Any, readers: list[nn.Linear]) -> Tensor | None:
    """Moves bias and weight of a LayerNorm into the linear layers that read its output.

    Returns the weight, [D], where it has to stay with the norm instead.
    """
    stays = isinstance(norm, SmoothedNorm)
    for reader in readers:
        if norm.bias is not None:
            reader.bias.add_(reader.weight @ norm.bias)
        if norm.weight is not None and not stays:
            reader.weight.mul_(norm.weight)
    return norm.weight if stays else None


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
    """A LayerNorm without affine part: x / rms(x) of a centred x, times `scale` where a smoothed norm keeps one.

    The mean of squares is a product with a constant row, eps its bias: one operator every delegate knows.
    """

    def __init__(self, width: int, eps: float, centred: bool, scale: Tensor | None) -> None:
        super().__init__()
        self.scale = scale
        row = torch.full((1, width), 1.0 / width)
        self.mean_square = plain_linear(row, torch.full((1,), eps))
        self.mean = None if centred else plain_linear(row, None)

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        if self.mean is not None:
            x = x - self.mean(x)
        normed = x * torch.rsqrt(self.mean_square(x * x))
        return normed if self.scale is None else normed * self.scale


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
    """timm `Block` with LayerScale and the affine parts of its norms folded away; it may lack a sub-layer."""

    def __init__(self, block: Any, centred: bool, norms: Norms) -> None:
        super().__init__()
        self.has_attention, self.has_mlp = block.attn is not None, block.mlp is not None
        if self.has_attention:
            self.attn = LoweredAttention(block.attn)
            readers = [self.attn.q, self.attn.k, self.attn.v]
            self.norm1 = lowered_norm(block.norm1, readers, centred) if norms == "folded" else block.norm1
            finish(self.attn.proj, block.ls1, centred)
        if self.has_mlp:
            self.fc1 = plain_linear(block.mlp.fc1.weight, block.mlp.fc1.bias)
            self.fc2 = plain_linear(block.mlp.fc2.weight, block.mlp.fc2.bias)
            self.act = block.mlp.act
            self.norm2 = lowered_norm(block.norm2, [self.fc1], centred) if norms == "folded" else block.norm2
            finish(self.fc2, block.ls2, centred)

    def attend(self, x: Tensor) -> Tensor:
        """The first sub-layer. x: [1, N, D] -> [1, N, D]."""
        return x + self.attn(self.norm1(x)) if self.has_attention else x

    def transform(self, x: Tensor) -> Tensor:
        """The second sub-layer. x: [1, N, D] -> [1, N, D]."""
        return x + self.fc2(self.act(self.fc1(self.norm2(x)))) if self.has_mlp else x

    def forward(self, x: Tensor) -> Tensor:
        """x: [1, N, D] -> [1, N, D]."""
        return self.transform(self.attend(x))


def finish(writer: nn.Linear, layer_scale: nn.Module, centred: bool) -> None:
    """What a layer that writes into the stream takes in: the LayerScale after it, and the centring."""
    fold_scale(layer_scale, writer)
    if centred:
        centre(writer)


def lowered_norm(norm: nn.Module, readers: list[nn.Linear], centred: bool) -> nn.Module:
    """The norm's lowered form; its affine part goes into `readers`. Norms of other kinds stay as they are."""
    if not isinstance(norm, nn.LayerNorm):
        return norm
    scale = fold_affine(norm, readers)
    return LoweredNorm(norm.normalized_shape[0], norm.eps, centred, scale)


class LoweredViT(nn.Module):
    """timm `VisionTransformer` for one image; a class token is picked before the final norm, not after it."""

    pooling: Tensor

    def __init__(self, vit: Any, norms: Norms) -> None:
        super().__init__()
        folded = norms == "folded"
        centred = folded and can_centre(vit)
        self.blocks = nn.Sequential(*(LoweredBlock(b, centred, norms) for b in vit.blocks))
        self.distilled = isinstance(vit, VisionTransformerDistilled)
        heads = [vit.head, vit.head_dist] if self.distilled else [vit.head]
        self.norm, self.fc_norm = vit.norm, vit.fc_norm
        if folded and len(final_norms(vit)) == 1 and isinstance(vit.head, nn.Linear) and pools_linearly(vit):
            heads = [plain_linear(h.weight, h.bias) for h in heads]
            lowered = lowered_norm(final_norms(vit)[0], heads, centred)
            if isinstance(vit.norm, nn.Identity):
                self.fc_norm = lowered
            else:
                self.norm = lowered
        if vit.global_pool == "avg":
            # A mean over tokens is a product with constants; `mean` itself would stay outside the delegate.
            self.register_buffer("pooling", vit.pool(torch.eye(tokens_of(vit))[None])[:, None])
        if centred:
            centre_embedding(vit)
        self.head = mean_of_heads(heads) if self.distilled else heads[0]
        vit.blocks = nn.Sequential()
        vit.head = vit.head_dist = nn.Identity()
        self.embedding = vit

    def embed(self, images: Tensor) -> Tensor:
        """images: [1, 3, H, W] float32, or uint8 after `fold_normalization` -> tokens: [1, N, D]."""
        return embed(self.embedding, images.float() if images.dtype == torch.uint8 else images)

    def forward(self, images: Tensor) -> Tensor:
        """images: as `embed` takes them -> logits: [1, classes] float32."""
        return self.classify(self.blocks(self.embed(images)))

    def classify(self, x: Tensor) -> Tensor:
        """x: [1, N, D] tokens after the last block -> logits: [1, classes] float32."""
        if self.distilled:
            x = self.norm(x[:, :2]).reshape(1, 1, -1)
        elif self.embedding.global_pool == "token":
            x = self.norm(x[:, :1])
        elif self.embedding.global_pool == "avg":
            x = torch.bmm(self.pooling, self.norm(x))
        else:
            x = self.embedding.pool(self.norm(x))
        return self.head(self.fc_norm(x)).reshape(1, -1)


class LoweredPrefix(nn.Module):
    """`Prefix`, lowered. The mean over channels of its tokens may differ from the model's: see the module's text."""

    def __init__(self, vit: LoweredViT, sublayers: int) -> None:
        super().__init__()
        vit.blocks = vit.blocks[: (sublayers + 1) // 2]
        vit.head = vit.norm = vit.fc_norm = nn.Identity()
        self.vit, self.sublayers = vit, sublayers

    def forward(self, images: Tensor) -> Tensor:
        """images: [1, 3, H, W] -> tokens: [1, N, D]."""
        x = self.vit.embed(images)
        for number in range(self.sublayers):
            block: Any = self.vit.blocks[number // 2]
            x = block.attend(x) if number % 2 == 0 else block.transform(x)
        return x


def mean_of_heads(heads: Sequence[nn.Linear]) -> nn.Linear:
    """The mean of several heads, each on a token of its own, as one layer on all tokens: [classes, heads · D]."""
    weight = torch.cat([h.weight for h in heads], 1) / len(heads)
    return plain_linear(weight, torch.stack([h.bias for h in heads]).mean(0))


def final_norms(vit: Any) -> list[nn.Module]:
    return [n for n in (vit.norm, vit.fc_norm) if not isinstance(n, nn.Identity)]


def pools_linearly(vit: Any) -> bool:
    return vit.global_pool in ("token", "avg")


def can_centre(vit: Any) -> bool:
    """Whether every reader of the residual stream is a LayerNorm and every writer can be centred."""
    readers = [n for b in vit.blocks for n in (b.norm1, b.norm2) if n is not None] + final_norms(vit)
    plain = isinstance(vit.norm_pre, nn.Identity) and isinstance(vit.patch_embed.norm, nn.Identity)
    one = len(final_norms(vit)) == 1 and pools_linearly(vit)
    return plain and one and all(isinstance(n, nn.LayerNorm) for n in readers)


def centre_embedding(vit: Any) -> None:
    """Centres everything that is added up before the first block."""
    centre(vit.patch_embed.proj)
    for tokens in (vit.cls_token, vit.reg_token, getattr(vit, "dist_token", None), vit.pos_embed):
        if tokens is not None:
            tokens.sub_(tokens.mean(-1, keepdim=True))
