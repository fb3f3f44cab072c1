"""How to make a timm model again: name, arguments, classes, and what it outputs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
from torch import Tensor, nn, rsqrt

from wdp_edge.config.recipe import ModelRecipe
from wdp_edge.config.values import parse_blocks
from wdp_edge.errors import InputError
from wdp_edge.models import vit
from wdp_edge.models.forms import argument_hint, check_arguments, check_form, check_numbers
from wdp_edge.models.map_head import ConvMapHead, MapHead, Tap
from wdp_edge.protocols.task import Output, facts_of


class UnitLength(nn.Module):
    """x / |x|: [..., D] -> [..., D]. No weights: a saved model is the same with and without it.

    By the mean of squares, which also stays within half precision where their sum would not.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * (rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * x.shape[-1] ** -0.5)


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of `timm.create_model`. num_classes: 0 for models that output embeddings.

    head_channels: of a convolutional head over the patches; 0: one linear layer. head_blocks: numbers of the blocks,
    from 1 and ascending, that a head over the patches reads; (): the last one.
    """

    name: str
    num_classes: int
    args: Mapping[str, Any] = field(default_factory=dict)
    output: Output = Output.LOGITS
    head_channels: int = 0
    head_blocks: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: ModelRecipe) -> ModelSpec:
        """The model of a recipe, with the output of its task."""
        output = facts_of(model.task).output
        blocks = parse_blocks(model.head_blocks)
        return cls(model.name, model.num_classes, dict(model.args), output, model.head_channels, blocks)

    def to_json(self) -> dict[str, Any]:
        """Without what is as usual: measured tables and saved models are found under this text."""
        plain: dict[str, Any] = {"name": self.name, "num_classes": self.num_classes, "args": dict(self.args)}
        if self.output is not Output.LOGITS:
            plain["output"] = self.output.value
        if self.head_channels:
            plain["head_channels"] = self.head_channels
        return {**plain, "head_blocks": list(self.head_blocks)} if self.head_blocks else plain


def create(spec: ModelSpec) -> nn.Module:
    """The dense model with random weights, in eval mode, float32.

    Raises InputError for a name timm does not know, arguments it does not take, or a family we do not know.
    """
    known = timm.list_models()
    base = spec.name.split(".")[0]
    if base not in known:
        near = difflib.get_close_matches(base, known, n=3, cutoff=0.5)
        raise InputError(
            f"timm {timm.__version__} has no model '{spec.name}'.",
            f"Did you mean {' or '.join(near)}?" if near else "See timm.list_models('vit_*').",
        )
    _check_classes(spec)
    check_arguments(spec.name, spec.args)
    # Without pooling timm's own head reads every token.
    args = {**spec.args, "global_pool": ""} if spec.output is Output.MAP else spec.args
    try:
        model = timm.create_model(spec.name, pretrained=False, num_classes=spec.num_classes, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError, AttributeError, LookupError, ArithmeticError) as error:
        raise InputError(
            f"timm cannot make '{spec.name}' with {dict(spec.args)}: {error}.", argument_hint(spec.args)
        ) from error
    check_numbers(model, spec.name, spec.args)
    check_form(model, spec.name, spec.output is Output.MAP)
    if not spec.output.of_classes and vit.head_count(model) > 1:
        raise InputError(
            f"'{spec.name}' cannot output embeddings: its two heads read different tokens.",
            "Choose a model without a distillation token.",
        )
    if spec.output is Output.UNIT:
        vit.set_head(model, UnitLength())
    if spec.output is Output.MAP:
        _set_map_head(model, spec)
    return model.eval()


def _set_map_head(model: Any, spec: ModelSpec) -> None:
    """Raises InputError when the tokens that the head reads are not the patches of the whole image."""
    if not vit.outputs_maps(model):
        raise InputError(
            f"'{spec.name}' cannot output a class map: its last tokens are not the patches of the image.",
            "Choose a VisionTransformer (vit_*, deit_*, DINOv2) or an Eva (eva02_*, DINOv3).",
        )
    size, patch = model.patch_embed.img_size, model.patch_embed.patch_size
    if any(pixels % side for pixels, side in zip(size, patch, strict=True)):
        raise InputError(
            f"Images of {size[0]} x {size[1]} pixels are not made of whole patches of {patch[0]} x {patch[1]}.",
            "Set img_size in [model.args] to a multiple of the patch size.",
        )
    grid, taps = model.patch_embed.grid_size, _taps(model, spec)
    if spec.head_channels:
        vit.set_head(model, ConvMapHead(model.embed_dim, spec.head_channels, spec.num_classes, grid, taps))
    else:
        head = nn.Linear(model.embed_dim * (len(taps) + 1), spec.num_classes) if taps else model.head
        vit.set_head(model, MapHead(head, grid, taps))


def _taps(model: Any, spec: ModelSpec) -> list[Tap]:
    """On all blocks that the head reads but the last one."""
    if not spec.head_blocks:
        return []
    depth = len(vit.blocks_of(model))
    *earlier, last = spec.head_blocks
    if list(spec.head_blocks) != sorted(set(spec.head_blocks)) or spec.head_blocks[0] < 1 or last != depth:
        raise InputError(
            f"A head cannot read blocks {', '.join(map(str, spec.head_blocks))} of {depth}.",
            f"Set head_blocks in [model] to ascending numbers that end with {depth}; blocks after those that it reads "
            "are left out with depth in args.",
        )
    taps = [Tap(number, (model.norm, model.fc_norm)) for number in earlier]
    for tap in taps:
        vit.blocks_of(model)[tap.block - 1].register_forward_hook(tap)
    return taps


def _check_classes(spec: ModelSpec) -> None:
    if (spec.head_channels or spec.head_blocks) and spec.output is not Output.MAP:
        raise InputError(
            "A convolutional head, or one on several blocks, needs patches to read.",
            'Set task = "segment" in [model], or leave head_channels and head_blocks out.',
        )
    if spec.output.of_classes and spec.num_classes < 2:
        raise InputError(
            f"Model '{spec.name}' needs at least 2 classes, not {spec.num_classes}.",
            "Set num_classes in [model].",
            {"--num-classes": "Set num_classes in [model] or give --num-classes."},
        )
    if not spec.output.of_classes and spec.num_classes:
        raise InputError(
            f"A model that outputs embeddings has no classes, but num_classes is {spec.num_classes}.",
            "Set num_classes = 0 in [model]; a classifier's checkpoint is loaded without its head.",
        )
