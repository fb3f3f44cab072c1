"""A Vision Transformer rewritten for lowering: the same function, in a form that becomes one delegate.

Where a head reads the class token, or the prefix, what follows the last attention is computed for those tokens alone.

Folded into the weights, all exactly: LayerScale into `proj` and `fc2`; the affine part of every LayerNorm
into the linear layers that read it; the attention scale into `q`; and the centring of every LayerNorm into
whatever writes the residual stream (a LayerNorm does not see the mean of its input, so the stream may as well
have none). What is left of a LayerNorm is x / rms(x), which delegates can run where `native_layer_norm` stays
outside. docs/concepts/lowering.md says why.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.lowering.parts import LoweredBlock, LoweredNorm, Norms, centre, lowered_norm, plain_linear
from wdp_edge.lowering.swin import LoweredSwin
from wdp_edge.models.families import family_of, unsupported
from wdp_edge.models.families.base import mean_of_heads
from wdp_edge.models.families.swin import Swin
from wdp_edge.models.map_head import ConvMapHead, MapHead, as_map, is_map_head, taps_of
from wdp_edge.models.vit import Prefix, read_tokens, set_fused_attention, sublayers, tokens_of

_NORM_PARTS = ("mean_square", "mean")
_NAMES_SHOWN = 6
_IN_PREFIX = "vit."  # where a `LoweredPrefix` has its model


def lower(model: nn.Module, norms: Norms = "folded") -> nn.Module:
    """An export-friendly copy, in eval mode: one image [1, 3, H, W] float32 -> what the model outputs: logits
    [1, classes] or [1, classes, h, w], or an embedding, float32.

    A ViT that `wdp_edge.models.vit` knows, cut or not, is rewritten; any other module is copied, with its
    timm attentions switched to plain matrix products (the fused kernel decomposes into operators that no
    delegate takes).
    norms: "folded" makes x / rms(x) of every LayerNorm, for delegates that do not take `native_layer_norm`; "native"
    leaves them as they are, for runtimes that have a kernel of their own.
    """
    lowered: Any = copy.deepcopy(model).eval().requires_grad_(False)
    set_fused_attention(lowered, False)
    if isinstance(lowered, Prefix):
        return LoweredPrefix(_lowered(lowered.vit, norms), lowered.sublayers).eval().requires_grad_(False)
    if unsupported(lowered):
        return lowered
    return _lowered(lowered, norms).eval().requires_grad_(False)


def _lowered(model: Any, norms: Norms) -> LoweredViT | LoweredSwin:
    family = family_of(model)
    return LoweredSwin(model, family, norms) if isinstance(family, Swin) else LoweredViT(model, norms)


def output_name(lowered: nn.Module) -> str:
    """What files call the output: "embedding" where a ViT's head has no weights, else "logits"."""
    head = lowered.head if isinstance(lowered, LoweredViT) else None
    return "logits" if head is None or isinstance(head, nn.Linear | nn.Sequential) else "embedding"


def quantized_layers(lowered: nn.Module) -> list[str]:
    """Names of the layers that integer precisions quantize, in the order they run.

    q, k and v are three layers here; `ExportOptions.keep_float` may name them "blocks.0.attn.qkv" together.
    """
    names = [name for name, module in lowered.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return sorted((n for n in names if not n.endswith(_NORM_PARTS)), key=lambda n: not n.startswith("embedding"))


def check_kept(lowered: nn.Module, kept: Sequence[str]) -> None:
    """Raises InputError for names in `keep_float` that the model has no layer for; a `Prefix` lacks some."""
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


class LoweredViT(nn.Module):
    """timm's `VisionTransformer` or `Eva` for one image; a class token is picked before the final norm, not after."""

    pooling: Tensor

    def __init__(self, vit: Any, norms: Norms) -> None:
        super().__init__()
        folded = norms == "folded"
        self.centred = centred = folded and can_centre(vit)
        parts = sublayers(vit)
        pairs = zip(parts[0::2], parts[1::2], strict=True)
        self.blocks = nn.Sequential(*(LoweredBlock(*pair, centred, norms) for pair in pairs))
        self.family = family_of(vit)  # looked up here: a tracer does not see classes as they are
        self.grid = vit.head.grid if is_map_head(vit.head) else None
        self.reads_map = isinstance(vit.head, ConvMapHead)
        heads: list[Any] = self.family.heads(vit) if self.grid is None else parts_of(vit.head)[-1:]
        self.read_tokens = read_tokens(vit)
        self.read_first()
        self.norm, self.fc_norm = vit.norm, nn.Identity() if len(heads) > 1 else vit.fc_norm
        self.taps = None
        if folded and one_norm(vit) and isinstance(heads[0], nn.Linear | nn.Sequential):
            heads = [plain_linear(h.weight, h.bias) if isinstance(h, nn.Linear) else h for h in heads]
            lowered = partial(final_norm, centred=centred)
            place = "fc_norm" if isinstance(vit.norm, nn.Identity) else "norm"
            if taps_of(vit.head):
                self.taps = LoweredTaps(vit, getattr(vit, place), lowered)
            setattr(self, place, lowered(getattr(vit, place), heads))
        elif taps_of(vit.head):
            self.taps = LoweredTaps(vit, nn.Sequential(*final_norms(vit)), lambda norm, _: norm)
        if vit.global_pool == "avg":
            # A mean over tokens is a product with constants; `mean` itself would stay outside the delegate.
            self.register_buffer("pooling", vit.pool(torch.eye(tokens_of(vit))[None])[:, None])
        if centred:
            centre_embedding(vit)
        self.head = mean_of_heads(heads) if len(heads) > 1 else heads[0]
        vit.blocks = nn.Sequential()
        vit.head = vit.head_dist = nn.Identity()
        vit.rope = None
        fix_size(vit)
        self.embedding = vit

    def read_first(self, on: bool = True) -> None:
        """What follows the last attention is computed for those tokens alone that the head reads, or for all again."""
        attending: list[Any] = [block for block in self.blocks if block.has_attention]
        self.reads_first = on and self.read_tokens is not None and bool(attending)
        if attending:
            attending[-1].read_first(self.read_tokens if self.reads_first else None)

    def embed(self, images: Tensor) -> Tensor:
        """images: [1, 3, H, W] float32, or uint8 after `fold_normalization` -> tokens: [1, N, D]."""
        floats = images.float() if images.dtype == torch.uint8 else images
        return self.family.embed(self.embedding, floats)

    def forward(self, images: Tensor) -> Tensor:
        """images: as `embed` takes them -> logits: [1, classes] float32, or a map of them: [1, classes, h, w]."""
        x = self.embed(images)
        if self.taps is None or self.grid is None:
            return self.classify(self.blocks(x))
        streams = {}
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in self.taps.blocks:
                streams[number] = x[:, -self.grid[0] * self.grid[1] :]
        return self.classify(x, self.taps(streams))

    def classify(self, x: Tensor, earlier: list[Tensor] | None = None) -> Tensor:
        """x: [1, N, D] tokens after the last block; earlier: from `LoweredTaps` -> what `forward` outputs."""
        if self.grid is not None:
            seen = self.fc_norm(self.norm(x[:, -self.grid[0] * self.grid[1] :]))
            if self.reads_map:
                return self.head(as_map(torch.cat([*earlier, seen], -1) if earlier else seen, self.grid))
            return as_map(sum(earlier or [], start=self.head(seen)), self.grid)
        if self.read_tokens is not None:
            seen = x if self.reads_first else x[:, : self.read_tokens]
            x = self.norm(seen).reshape(1, 1, -1)
        elif self.embedding.global_pool == "avg":
            x = torch.bmm(self.pooling, self.norm(x))
        else:
            x = self.embedding.pool(self.norm(x))
        return self.head(self.fc_norm(x)).reshape(1, -1)


class LoweredPrefix(nn.Module):
    """`Prefix`, lowered. The mean over channels of its tokens may differ from the model's: see the module's text."""

    def __init__(self, vit: LoweredViT | LoweredSwin, sublayers: int) -> None:
        super().__init__()
        if isinstance(vit, LoweredViT):
            vit.read_first(False)  # a prefix is compared with the model's own tokens, all of them
        vit.blocks = vit.blocks[: (sublayers + 1) // 2]
        vit.head = vit.norm = vit.fc_norm = vit.leaving = nn.Identity()
        self.vit, self.sublayers = vit, sublayers

    def forward(self, images: Tensor) -> Tensor:
        """images: [1, 3, H, W] -> tokens: [1, N, D]."""
        x = self.vit.embed(images)
        for number in range(self.sublayers):
            block: Any = self.vit.blocks[number // 2]
            x = block.attend(x) if number % 2 == 0 else block.transform(x)
        return x


def final_norm(norm: nn.Module, heads: list[Any], centred: bool) -> nn.Module:
    """The lowered form of the norm that `heads` read.

    Convolutions pad with zeros *after* the norm, so there its affine part cannot go into them.
    """
    if all(isinstance(head, nn.Linear) for head in heads):
        return lowered_norm(norm, heads, centred)
    if not isinstance(norm, nn.LayerNorm):
        return norm
    return LoweredNorm(norm.normalized_shape[0], norm.eps, centred, norm.weight, norm.bias)


def final_norms(vit: Any) -> list[nn.Module]:
    return [n for n in (vit.norm, vit.fc_norm) if not isinstance(n, nn.Identity)]


def pools_linearly(vit: Any) -> bool:
    """Also where nothing is pooled and every token is read on its own."""
    return vit.global_pool in ("token", "avg", "")


def one_norm(vit: Any) -> bool:
    """Whether a single norm stands before the head, which nothing but a linear pooling parts from it."""
    return len(final_norms(vit)) == 1 and pools_linearly(vit)


def can_centre(vit: Any) -> bool:
    """Whether every reader of the residual stream is a LayerNorm and every writer can be centred."""
    readers = [s.norm for s in sublayers(vit) if s is not None] + final_norms(vit)
    plain = isinstance(vit.norm_pre, nn.Identity) and isinstance(vit.patch_embed.norm, nn.Identity)
    return plain and one_norm(vit) and all(isinstance(n, nn.LayerNorm) for n in readers)


def fix_size(vit: Any) -> None:
    """A file takes images of the model's own size: position embeddings, which are of that size, are not resampled.

    timm resamples them in the graph of a model with `dynamic_img_size`, by an operator that runtimes lack.
    """
    if getattr(vit, "dynamic_img_size", False):
        vit.dynamic_img_size = False
        vit.patch_embed.flatten, vit.patch_embed.strict_img_size = True, True


def centre_embedding(vit: Any) -> None:
    """Centres everything that is added up before the first block."""
    centre(vit.patch_embed.proj)
    for name in family_of(vit).added:
        if (tokens := getattr(vit, name, None)) is not None:
            tokens.sub_(tokens.mean(-1, keepdim=True))


class LoweredTaps(nn.Module):
    """Final norm, and the head's own part where it is linear, for each block that is tapped.

    blocks: their numbers, from 1. A linear head of several blocks is the sum of one for each, so that every norm is
    folded into its own part. A convolutional head reads the normed tokens side by side.
    """

    def __init__(self, vit: Any, norm: nn.Module, lowered: Callable[[nn.Module, list[Any]], nn.Module]) -> None:
        """norm: the model's final one. lowered: makes its lowered form from it and the layers that read it."""
        super().__init__()
        self.blocks = [tap.block for tap in taps_of(vit.head)]
        parts = parts_of(vit.head)[:-1]
        self.norms = nn.ModuleList(lowered(norm, [part]) for part in parts)
        self.heads = nn.ModuleList(parts)

    def forward(self, streams: dict[int, Tensor]) -> list[Tensor]:
        """streams: [1, patches, D] by number of block -> logits [1, patches, classes] to add up, or normed tokens."""
        pairs = zip(self.heads, self.norms, strict=True)
        return [head(norm(streams[block])) for block, (head, norm) in zip(self.blocks, pairs, strict=True)]


def parts_of(head: Any) -> list[nn.Module]:
    """A head's plain layers for each block that it reads, the last one's at the end.

    A convolutional head cannot be parted: all of it belongs to the last block.
    """
    taps = taps_of(head)
    if not isinstance(head, MapHead):
        return [*(nn.Identity() for _ in taps), nn.Sequential(*head)]
    *earlier, last = head.weight.chunk(len(taps) + 1, 1)
    return [*(plain_linear(weight, None) for weight in earlier), plain_linear(last, head.bias)]
