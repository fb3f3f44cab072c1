"""What every Vision Transformer that we know can be asked; `wdp_edge.models.families` has the answers by family."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.families import family_of, known_families, unsupported
from wdp_edge.models.families.base import mean_of_heads, set_heads
from wdp_edge.models.map_head import taps_of
from wdp_edge.models.structure import Geometry, Structure
from wdp_edge.models.sublayers import Sublayer, same


def check_supported(model: nn.Module, name: str) -> None:
    """Raises InputError with the reason when the model has a part that the surgery does not know."""
    if reason := unsupported(model):
        raise InputError(f"'{name}' cannot be pruned: {reason}.", known_families())


def structure_of(model: Any) -> Structure:
    """The widths that the model's tensors have now."""
    return family_of(model).structure_of(model)


def geometry_of(model: Any) -> Geometry:
    """Counts' constants."""
    return family_of(model).geometry_of(model)


def tokens_of(model: Any) -> int:
    """Sequence length in the first blocks: patches, class token and registers."""
    return family_of(model).tokens(model)


def blocks_of(model: Any) -> list[Any]:
    """All blocks, in the order they run."""
    return family_of(model).blocks(model)


def sublayers(model: Any) -> list[Sublayer | None]:
    """Attention and MLP of every block, in the order they run; None for those that are gone."""
    return family_of(model).sublayers(model)


def fixed_heads(model: Any) -> str | None:
    """Why attention heads of this model keep all their channels, or None where they can be narrowed."""
    return family_of(model).fixed_heads(model)


def embed(model: Any, images: Tensor) -> Tensor:
    """images: [B, 3, H, W] float32 -> the stream before the first block: [B, ..., D], tokens in families of one stage
    and a picture of them in others."""
    return family_of(model).embed(model, images)


def run_block(model: Any, number: int, x: Tensor) -> Tensor:
    """x: [B, ..., D] stream before a block, from 0 -> after it."""
    return family_of(model).block(model, number)(x)


def classify(model: Any, x: Tensor) -> Tensor:
    """x: [B, ..., D] stream after the last block -> the model's outputs: [B, classes], [B, F] embeddings, or maps."""
    seen = pooled(model, x)
    heads = family_of(model).heads(model)
    parts = seen.chunk(len(heads), 1)
    outputs = torch.stack([head(part) for head, part in zip(heads, parts, strict=True)])
    return outputs.mean(0) if len(heads) > 1 else outputs[0]


def pooled(model: Any, x: Tensor, depth: int | None = None, norm: nn.Module | None = None) -> Tensor:
    """x: [B, ..., D] stream after `depth` blocks, all when None -> what the classifier sees: [B, F].

    [B, patches, F] where the model outputs maps. norm: an exit's own norm instead of the model's final one.
    """
    family = family_of(model)
    depth = len(family.blocks(model)) if depth is None else depth
    return family.pooled(model, x, depth, norm or model.norm)


def head_count(model: Any) -> int:
    """Number of heads; the model's output is the mean of theirs."""
    return len(family_of(model).heads(model))


def has_classifier(model: Any) -> bool:
    """Whether the heads are linear layers, not what passes an embedding on."""
    return all(isinstance(head, nn.Linear) for head in family_of(model).heads(model))


def set_head(model: Any, head: nn.Module) -> None:
    """Replaces what stands after `pooled`, in place."""
    family_of(model).set_head(model, head)


def outputs_maps(model: Any) -> bool:
    """Whether a head can read every patch of this family's models."""
    return family_of(model).maps


def may_end_early(model: Any) -> bool:
    """Whether the head reads the last block alone, so that an earlier one can take its place."""
    return not any(taps_of(head) for head in family_of(model).heads(model))


def ends_alike(model: Any, depth: int) -> bool:
    """Whether the stream after `depth` blocks could stand in for that after the last one."""
    return family_of(model).leave(model, depth) is same


def classifier(model: Any) -> nn.Linear:
    """A copy of the linear map from what `pooled` gives to the logits: [classes, F]."""
    return mean_of_heads(family_of(model).heads(model))


def head_of(model: Any) -> nn.Module:
    """A copy of what makes the model's outputs from what `pooled` gives; several heads become one."""
    return classifier(model) if head_count(model) > 1 else copy.deepcopy(family_of(model).heads(model)[0])


def set_classifier(model: Any, weight: Tensor, bias: Tensor) -> None:
    """weight: [classes, F], bias: [classes]; in place."""
    set_heads(family_of(model).heads(model), weight, bias)


def read_tokens(model: Any) -> int | None:
    """How many tokens at the beginning of the sequence reach the head; None: all do."""
    return family_of(model).read_tokens(model)


def drops_unread(model: Any) -> bool:
    """Whether a file computes what follows the last attention for a few tokens alone: see `lowering`."""
    return read_tokens(model) is not None


def example_of(model: Any) -> Tensor:
    """A zero image of the model's own size: [1, 3, H, W] float32."""
    return torch.zeros(1, model.patch_embed.proj.in_channels, *model.patch_embed.img_size)


def set_fused_attention(model: nn.Module, fused: bool) -> None:
    """Chooses the attention kernel of every block (`scaled_dot_product_attention` or plain matrix products)."""
    modules: Iterable[Any] = model.modules()
    for module in modules:
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused


def fused_attention_pays(tokens: int) -> bool:
    """Whether the fused kernel trains faster on CPU.

    Measured on two AVX-512 cores: its backward pass takes 13 ms for 17 tokens where plain products take 1;
    short sequences do not need its memory saving either.
    """
    return tokens > 128


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """images: [n, 3, H, W] float32 -> the model's outputs, [n, ...] float32, in batches."""
    model.eval()
    return torch.cat([model(part).float() for part in images.split(batch_size)])


class Prefix(nn.Module):
    """The beginning of a ViT, to find where an artifact goes wrong: the embedding and some sub-layers.

    sublayers: attention and MLP of the first block are 1 and 2, those of the next 3 and 4, and so on.
    """

    def __init__(self, vit: Any, sublayers: int) -> None:
        super().__init__()
        self.vit, self.sublayers = vit, sublayers

    def forward(self, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] -> the stream: [B, ..., D]."""
        x = embed(self.vit, images)
        for sublayer in sublayers(self.vit)[: self.sublayers]:
            x = x if sublayer is None else sublayer(x)
        return x
