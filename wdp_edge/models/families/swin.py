"""timm's `SwinTransformer` and `SwinTransformerV2`: stages of windows, whose widths stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import accumulate
from math import ceil
from typing import Any, ClassVar

import torch
from timm.models import swin_transformer, swin_transformer_v2
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models import attentions
from wdp_edge.models.families.base import Family, attention_of, mlp_of
from wdp_edge.models.structure import AttentionGeometry, MlpGeometry
from wdp_edge.models.sublayers import Step, Sublayer, same


class Swin(Family):
    """Blocks are numbered through all stages. Where later blocks are gone the patch mergings stay: the final norm and
    the head see a stream of their own width, whatever the exit."""

    name = "SwinTransformer"
    models = "swin_*"
    types = (swin_transformer.SwinTransformer,)
    attentions: ClassVar[tuple[type, ...]] = (swin_transformer.WindowAttention,)
    modules = ("swin_transformer",)
    block_types: ClassVar[tuple[type, ...]] = (swin_transformer.SwinTransformerBlock,)
    drops = False
    shallow: ClassVar[Mapping[str, Any]] = {"depths": (1, 1, 1, 1)}

    def unsupported(self, model: Any) -> str | None:
        if not isinstance(model.embed_dim, int):
            return "the widths of its stages are not multiples of the first one's"
        return super().unsupported(model)

    def fixed_heads(self, model: Any) -> str | None:
        return "in windows"

    def blocks(self, model: Any) -> list[Any]:
        return [block for stage in model.layers for block in stage.blocks]

    def truncate(self, model: Any, depth: int) -> None:
        for stage in model.layers:
            stage.blocks = stage.blocks[: max(depth, 0)]
            depth -= stage.depth
            stage.depth = len(stage.blocks)

    def partial(self, block: Any, attention: bool, mlp: bool) -> nn.Module:
        """Raises InputError: blocks keep both sub-layers."""
        raise InputError(f"Blocks of a {self.name} keep both sub-layers.", "Keep a head and a hidden unit of each.")

    def trim_features(self, model: Any) -> None:
        """timm's features are those of stages, and they stay."""

    def embed(self, model: Any, images: Tensor) -> Tensor:
        embedded: Tensor = model.patch_embed(images)
        return embedded

    def block(self, model: Any, number: int) -> Step:
        places = list(self.places(model))
        enter, block = places[number]
        return lambda x: block(enter(x))

    def places(self, model: Any) -> Iterator[tuple[Step, Any]]:
        """For every block, what comes before it (a patch merging or nothing), and the block."""
        for stage in model.layers:
            enter = stage.downsample
            for block in stage.blocks:
                yield enter, block
                enter = same

    def leave(self, model: Any, depth: int) -> Step:
        """Patch mergings of the stages after the one that holds block `depth`."""
        ends = accumulate(len(stage.blocks) for stage in model.layers)
        stage = next(number for number, end in enumerate(ends) if depth <= end)
        merging = [later.downsample for later in model.layers[stage + 1 :]]
        return nn.Sequential(*merging) if merging else same

    def pooled(self, model: Any, x: Tensor, depth: int, norm: nn.Module) -> Tensor:
        x = norm(self.leave(model, depth)(x))
        seen: Tensor = model.head.drop(model.head.global_pool(x))
        return seen

    def heads(self, model: Any) -> list[nn.Module]:
        return [model.head.fc]

    def set_head(self, model: Any, head: nn.Module) -> None:
        model.head.fc = head

    def read_tokens(self, model: Any) -> int | None:
        return None

    def sublayers(self, model: Any) -> list[Sublayer | None]:
        return [s for enter, block in self.places(model) for s in (self._attention(enter, block), self._mlp(block))]

    def _attention(self, enter: Step, block: Any) -> Sublayer:
        arrange = partial(from_windows, block)
        return attention_of(block.attn, block.norm1, block._attn, block.drop_path1, enter=enter, arrange=arrange)

    def _mlp(self, block: Any) -> Sublayer:
        return mlp_of(block.mlp, block.norm2, block.drop_path2)

    def tokens(self, model: Any) -> int:
        return int(model.patch_embed.num_patches)

    def macs_between_blocks(self, model: Any) -> int:
        later = list(model.layers)[1:]
        return sum(area(stage.output_resolution) * stage.downsample.reduction.weight.numel() for stage in later)

    def attention_geometry(self, model: Any, number: int, sublayer: Sublayer | None) -> AttentionGeometry:
        assert sublayer is not None
        block = self.blocks(model)[number]
        return AttentionGeometry(
            tokens=area(padded(block)),
            keys=block.window_area,
            channels=sublayer.writer.out_features // model.embed_dim,
            per_channel=super().attention_geometry(model, number, sublayer).per_channel,
            per_inner=sum(bias is not None for _, bias in attentions.projections(block.attn)),
            **self.position_counts(block.attn),
        )

    def position_counts(self, attn: Any) -> dict[str, int]:
        """Parameters and MACs of relative positions: a table with a column for each head."""
        return {"per_head": len(attn.relative_position_bias_table)}

    def mlp_geometry(self, model: Any, number: int, sublayer: Sublayer | None) -> MlpGeometry:
        assert sublayer is not None
        block, usual = self.blocks(model)[number], super().mlp_geometry(model, number, sublayer)
        return MlpGeometry(area(block.input_resolution), usual.channels, 2, usual.per_channel, usual.per_unit)


class SwinV2(Swin):
    """What a sub-layer adds is normalised, attention is that of cosines, and positions come out of a small MLP."""

    name = "SwinTransformerV2"
    models = "swinv2_* (not swinv2_cr_*)"
    types = (swin_transformer_v2.SwinTransformerV2,)
    attentions = (swin_transformer_v2.WindowAttention, attentions.CutWindowAttention)
    modules = ("swin_transformer_v2",)
    block_types = (swin_transformer_v2.SwinTransformerV2Block,)

    def _attention(self, enter: Step, block: Any) -> Sublayer:
        more: dict[str, Any] = {"post_norm": block.norm1, "enter": enter, "arrange": partial(from_windows, block)}
        return attention_of(block.attn, nn.Identity(), block._attn, block.attn.proj, **more)

    def _mlp(self, block: Any) -> Sublayer:
        return mlp_of(block.mlp, nn.Identity(), block.mlp.fc2, post_norm=block.norm2)

    def position_counts(self, attn: Any) -> dict[str, int]:
        first, _, last = attn.cpb_mlp
        places = attn.relative_coords_table.shape[1] * attn.relative_coords_table.shape[2]
        return {
            "per_head": 1 + last.in_features,
            "fixed": first.weight.numel() + first.bias.numel(),
            "head_macs": places * last.in_features,
            "fixed_macs": places * first.weight.numel(),
        }


def area(size: tuple[int, int]) -> int:
    return int(size[0] * size[1])


def padded(block: Any) -> tuple[int, int]:
    """Height and width of a block's picture of tokens, filled up to whole windows."""
    height, width = (ceil(n / w) * w for n, w in zip(block.input_resolution, block.window_size, strict=True))
    return height, width


def from_windows(block: Any, windows: Tensor) -> Tensor:
    """windows: [B · windows, tokens of one, K] in a block -> in the order of its stream: [B, H, W, K]."""
    (height, width), (rows, columns) = padded(block), block.input_resolution
    parts = windows.unflatten(1, block.window_size)
    picture = swin_transformer.window_reverse(parts, block.window_size, height, width)[:, :rows, :columns]
    return torch.roll(picture, shifts=tuple(block.shift_size), dims=(1, 2))
