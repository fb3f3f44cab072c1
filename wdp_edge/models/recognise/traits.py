"""What a model computes with that its weights do not show."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import timm
import torch

from wdp_edge.errors import InputError
from wdp_edge.models.forms import check_arguments


@dataclass(frozen=True)
class Traits:
    """heads: of every block; 0 where blocks differ. activation: timm's name. window: of Swin V2.

    pooling: timm's word. epsilon: of the first LayerNorm. image_size, patch: sides in pixels. width: channels. depth:
    blocks. All are empty where nothing tells.
    """

    heads: int = 0
    activation: str = ""
    window: int = 0
    pooling: str = ""
    epsilon: float = 0.0
    image_size: int = 0
    patch: int = 0
    width: int = 0
    depth: int = 0


def traits_of(model: Any) -> Traits:
    """Of a timm model. Raises AttributeError for one that is no Vision Transformer of the supported families."""
    staged = hasattr(model, "layers")
    blocks = [block for layer in model.layers for block in layer.blocks] if staged else list(model.blocks)
    heads = {block.attn.num_heads for block in blocks}
    return Traits(
        heads=heads.pop() if len(heads) == 1 else 0,
        activation=activation_of(model),
        window=window_of(model),
        pooling=str(getattr(model, "global_pool", None) or ""),
        epsilon=float(getattr(blocks[0].norm1, "eps", None) or 0.0),
        image_size=side_of(model),
        patch=int(model.patch_embed.patch_size[0]),
        width=int(model.embed_dim),
        depth=len(blocks),
    )


def activation_of(model: Any) -> str:
    """timm's name of the activation in the first block, as far as it matters."""
    block = next(m for name, m in model.named_modules() if re.fullmatch(r"(?:layers\.0\.)?blocks\.0", name))
    kind = type(getattr(block.mlp, "act", block.mlp)).__name__.lower()
    return {"quickgelu": "quick_gelu", "gelutanh": "gelu_tanh", "gelu": "gelu"}.get(kind, kind)


def window_of(model: Any) -> int:
    """Of a Swin V2, whose weights do not tell it; 0 for others."""
    attention: Any = model.layers[0].blocks[0].attn if hasattr(model, "layers") else None
    return int(attention.window_size[0]) if hasattr(attention, "logit_scale") else 0


def side_of(model: Any) -> int:
    """Of the images that the model was made for, in pixels."""
    side: int = model.patch_embed.img_size[0]
    return side


def on_meta(name: str, **args: Any) -> Any:
    """A timm model of shapes alone; None for one whose making needs numbers, or which timm cannot make so.

    name, args: possibly of a foreign file, so nothing but a name of timm's own list and a model's own arguments is
    taken: "hf-hub:…" and `pretrained` would fetch something.
    """
    if not timm.is_model(name):
        return None
    try:
        check_arguments(name, args)
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, num_classes=0, **args)
    except (InputError, RuntimeError, TypeError, ValueError, AssertionError, LookupError, AttributeError):
        return None
