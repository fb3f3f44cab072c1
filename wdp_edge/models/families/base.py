"""What a family of models answers: its parts, its sub-layers, its counts, and how it is cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from wdp_edge.models import attentions, mlps
from wdp_edge.models.map_head import ConvMapHead, MapHead
from wdp_edge.models.structure import (
    AttentionGeometry,
    BlockWidths,
    Geometry,
    MlpGeometry,
    Structure,
    block_counts,
)
from wdp_edge.models.sublayers import Step, Sublayer, same


class Family(ABC):
    """One timm architecture. Methods take the model: a family has no state.

    This class holds what is the same for all: blocks with `norm1`, `attn`, `norm2` and `mlp`.
    name: timm's class. models: timm's names of its models, as a user would look for them; modules: where timm has them.
    types: its classes. block_types: those of its blocks. attentions: classes of attention whose heads can be cut.
    narrows_heads, drops: whether heads can be narrowed, and whole sub-layers dropped. maps: whether its last tokens are
    the patches of the image, each of which a head can read. shallow: arguments for the least depth. added: names of the
    parameters, [..., D], that are added to the stream before the first block.
    """

    name: ClassVar[str]
    models: ClassVar[str]
    types: ClassVar[tuple[type, ...]]
    block_types: ClassVar[tuple[type, ...]]
    attentions: ClassVar[tuple[type, ...]]
    modules: ClassVar[tuple[str, ...]]
    narrows_heads: ClassVar[bool] = False
    drops: ClassVar[bool] = True
    maps: ClassVar[bool] = False
    shallow: ClassVar[Mapping[str, Any]] = {"depth": 1}
    added: ClassVar[tuple[str, ...]] = ()

    def unsupported(self, model: Any) -> str | None:
        """Why the model cannot be pruned, or None."""
        if getattr(model, "attn_pool", None) is not None:
            named = str((getattr(model, "pretrained_cfg", None) or {}).get("architecture", ""))
            mean = named.replace("siglip", "siglip_gap") if "siglip" in named else ""
            return "it pools by attention" + f"; {mean} takes its weights and the mean of the patches" * bool(mean)
        if odd := next((b for b in self.blocks(model) if type(b) not in self.block_types), None):
            return f"its blocks are {type(odd).__name__}"
        if type(model.patch_embed) is not PatchEmbed:
            return f"its patches come from a {type(model.patch_embed).__name__}, not from one convolution"
        if not isinstance(getattr(model, "patch_drop", None), nn.Identity | None):
            return "it drops patches; leave out patch_drop_rate, which has no weights"
        for block in self.blocks(model):
            reason = attentions.unsupported(block.attn, self.attentions) or mlps.unsupported(block.mlp)
            if reason:
                return reason
        return None

    @abstractmethod
    def fixed_heads(self, model: Any) -> str | None:
        """Why the heads of the model keep all their channels, or None."""

    def blocks(self, model: Any) -> list[Any]:
        """All blocks, in the order they run."""
        return list(model.blocks)

    def truncate(self, model: Any, depth: int) -> None:
        """Removes all blocks after the first `depth`, in place."""
        model.blocks = model.blocks[:depth]

    def trim_features(self, model: Any) -> None:
        """Takes the blocks that are gone out of what timm says of the model's features."""
        model.feature_info = model.feature_info[: len(self.blocks(model))]

    def replace_block(self, model: Any, number: int, block: nn.Module) -> None:
        model.blocks[number] = block

    @abstractmethod
    def partial(self, block: Any, attention: bool, mlp: bool) -> nn.Module:
        """What is left of a block without its attention, its MLP, or both."""

    @abstractmethod
    def embed(self, model: Any, images: Tensor) -> Tensor:
        """images: [B, 3, H, W] float32 -> the stream before the first block: [B, ..., D]."""

    def block(self, model: Any, number: int) -> Step:
        """The stream before this block, and before the stage that may begin with it -> the stream after it."""
        step: Step = self.blocks(model)[number]
        return step

    def leave(self, model: Any, depth: int) -> Step:
        """What happens to the stream between block `depth`, from 1, and the final norm, without the later blocks."""
        return same

    @abstractmethod
    def pooled(self, model: Any, x: Tensor, depth: int, norm: nn.Module) -> Tensor:
        """x: the stream after `depth` blocks -> what the classifier sees: [B, F], or [B, patches, F] for maps.

        norm: the final one.
        """

    def heads(self, model: Any) -> list[nn.Module]:
        """The linear layers (or `Identity`) whose mean the logits are; each sees its own equal part of [B, F]."""
        return [model.head]

    def set_head(self, model: Any, head: nn.Module) -> None:
        """Replaces the one head, in place."""
        model.head = head

    @abstractmethod
    def read_tokens(self, model: Any) -> int | None:
        """How many tokens at the beginning of the sequence reach the head; None: all do."""

    @abstractmethod
    def sublayers(self, model: Any) -> list[Sublayer | None]:
        """Attention and MLP of every block, in the order they run; None for those that are gone."""

    def tokens(self, model: Any) -> int:
        """Length of the sequence in the first blocks."""
        return int(model.patch_embed.num_patches + model.num_prefix_tokens)

    def structure_of(self, model: Any) -> Structure:
        """The widths that the model's tensors have now."""
        return Structure(int(model.embed_dim), tuple(widths_of(b) for b in self.blocks(model)))

    def geometry_of(self, model: Any) -> Geometry:
        """Counts' constants: what is outside the blocks is read off the model, the rest off its sub-layers."""
        structure, sublayers = self.structure_of(model), self.sublayers(model)
        macs = model.patch_embed.num_patches * model.patch_embed.proj.weight.numel()
        macs += sum(head_macs(head) for head in self.heads(model)) + self.macs_between_blocks(model)
        attention = tuple(self.attention_geometry(model, i, s) for i, s in enumerate(sublayers[0::2]))
        mlp = tuple(self.mlp_geometry(model, i, s) for i, s in enumerate(sublayers[1::2]))
        inside = block_counts(structure, Geometry(attention, mlp, 0, 0)).parameters
        return Geometry(attention, mlp, sum(p.numel() for p in model.parameters()) - inside, int(macs))

    def macs_between_blocks(self, model: Any) -> int:
        """MACs of what is neither block, embedding nor head."""
        return 0

    def attention_geometry(self, model: Any, number: int, sublayer: Sublayer | None) -> AttentionGeometry:
        """The counts of a block's attention. number: the block's, from 0; sublayer: its attention."""
        if sublayer is None:
            return AttentionGeometry()
        attn, tokens = sublayer.module, self.tokens(model)
        norms = [getattr(attn, name, None) for name in ("q_norm", "k_norm")]
        return AttentionGeometry(
            tokens=tokens,
            keys=tokens,
            channels=sublayer.writer.out_features // int(model.embed_dim),
            per_channel=per_channel(sublayer),
            per_inner=sum(bias is not None for _, bias in attentions.projections(attn)),
            per_head_channel=sum(numbers_in(n) for n in norms) // attentions.head_dim(attn),
        )

    def mlp_geometry(self, model: Any, number: int, sublayer: Sublayer | None) -> MlpGeometry:
        """The counts of a block's MLP. number: the block's, from 0; sublayer: its MLP."""
        if sublayer is None:
            return MlpGeometry()
        halves = mlps.halves(sublayer.module)
        biases = sum(bias is not None for _, bias in halves)
        return MlpGeometry(
            tokens=self.tokens(model),
            channels=sublayer.writer.out_features // int(model.embed_dim),
            matrices=1 + len(halves),
            per_channel=per_channel(sublayer),
            per_unit=biases + numbers_in(sublayer.module.norm) // sublayer.writer.in_features,
        )


def attention_of(attn: Any, norm: nn.Module, inner: Step, outlet: nn.Module, **more: Any) -> Sublayer:
    """An attention as a sub-layer. more: further fields of `Sublayer`."""
    readers, unit = attentions.readers(attn), attentions.head_dim(attn)
    return Sublayer(attn, norm, inner, readers, attn.proj, unit, outlet, **more)


def mlp_of(mlp: Any, norm: nn.Module, outlet: nn.Module, **more: Any) -> Sublayer:
    """An MLP as a sub-layer. more: further fields of `Sublayer`."""
    return Sublayer(mlp, norm, mlp, mlps.readers(mlp), mlp.fc2, 1, outlet, **more)


def pool(model: Any, x: Tensor) -> Tensor:
    """x: [B, N, D] -> timm's pooled token [B, D], or where it pools nothing the tokens of patches: [B, patches, D]."""
    seen: Tensor = model.pool(x) if model.global_pool else x[:, model.num_prefix_tokens :]
    return seen


def head_macs(head: nn.Module) -> int:
    """Multiply-accumulates of a head for one image; 0 for a head without weights."""
    places = head.patches if isinstance(head, MapHead | ConvMapHead) else 1
    return places * sum(p.numel() for p in head.parameters() if p.ndim > 1)


def widths_of(block: Any) -> BlockWidths:
    return BlockWidths(
        heads=int(block.attn.num_heads) if block.attn else 0,
        head_dim=attentions.head_dim(block.attn) if block.attn else 0,
        hidden=int(block.mlp.fc2.in_features) if block.mlp else 0,
    )


def numbers_in(module: nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def per_channel(sublayer: Sublayer) -> int:
    """Parameters of a sub-layer for each channel of its stream, besides its matrices."""
    vectors = numbers_in(sublayer.norm) + numbers_in(sublayer.post_norm)
    return vectors // sublayer.writer.out_features + (sublayer.writer.bias is not None) + (sublayer.gamma is not None)


@torch.no_grad()
def set_heads(heads: Sequence[nn.Module], weight: Tensor, bias: Tensor) -> None:
    """Makes the mean of the heads this map. weight: [classes, F], bias: [classes]."""
    for head, part in zip(heads, weight.chunk(len(heads), 1), strict=True):
        assert isinstance(head, nn.Linear)
        head.weight.copy_(part * len(heads))
        if head.bias is not None:
            head.bias.copy_(bias)


def mean_of_heads(heads: Sequence[Any]) -> nn.Linear:
    """The mean of several heads, each on its own part of [B, F], as one layer: [classes, F]."""
    weight = torch.cat([h.weight.detach() for h in heads], 1) / len(heads)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=heads[0].bias is not None, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight)
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.stack([h.bias.detach() for h in heads]).mean(0))
    return layer
