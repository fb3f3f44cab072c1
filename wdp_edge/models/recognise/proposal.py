"""The timm model, its arguments and its images, as far as a checkpoint and the files beside it tell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import Weights
from wdp_edge.models.fitting import head_classes
from wdp_edge.models.recognise.beside import Beside, beside
from wdp_edge.models.recognise.shape import Shape, shape_of
from wdp_edge.models.recognise.traits import Traits, activation_of, on_meta, side_of, window_of

# What timm calls models of so many channels; only these are made and compared.
_SIZES = {
    192: ("tiny",),
    384: ("small",),
    512: ("medium",),
    768: ("base",),
    1024: ("large",),
    1152: ("so400m",),
    1280: ("huge",),
    1408: ("giant",),
    1536: ("giant", "giantopt"),
    1664: ("gigantic",),
    4096: ("7b",),
}
_STAGED = {96: ("tiny", "small"), 128: ("base",), 192: ("large",)}
_USUAL = {"base", "giant", "plus", "tiny"}  # to begin with for any other number
# Of sources whose models all have the same one, which their keys do not tell.
_ACTIVATIONS = {"Hugging Face SigLIP": "gelu_tanh"}
_ASK = "Name it with --model, and its arguments with --model-arg."


@dataclass(frozen=True)
class Proposal:
    """args: of timm.create_model, beside those of its name. num_classes: rows of the head; 0 without one.

    why: what the proposal was told by, in short sentences.
    """

    name: str
    args: dict[str, Any]
    num_classes: int
    why: tuple[str, ...] = ()


def propose(
    weights: Weights, checkpoint: Path, given: Mapping[str, Any] | None = None, known: Beside | None = None
) -> Proposal:
    """given: arguments that the user named, which win. known: what the weights do not tell; by default what stands
    beside them.

    Raises InputError where no timm model has these parts, where two fit that compute something else, and where the
    number of heads is told by nothing.
    """
    try:
        shape = shape_of(weights.tensors)
    except (KeyError, IndexError) as error:
        raise InputError(
            f"Checkpoint {checkpoint} has no blocks of a Vision Transformer that is known.", _ASK
        ) from error
    known = known or beside(checkpoint)
    told = known.traits
    if not told.activation and weights.source in _ACTIVATIONS:
        told = replace(told, activation=_ACTIVATIONS[weights.source])
    own = dict(given or {})
    if known.name:
        name, args = _stated(shape, known, checkpoint)
    else:
        name, args = _best(shape, _names(shape, weights), told, checkpoint), {}
    args = args | {**_arguments(shape, on_meta(name, **args), told, checkpoint, {**args, **own}), **own}
    parts = "" if len(shape.depths) > 1 else f", patches of {shape.patch}"
    why = [f"keys of {weights.source}: {shape.embed_dim} channels, {'+'.join(map(str, shape.depths))} blocks{parts}"]
    if known.files:
        why.append(f"{' and '.join(known.files)} beside it")
    return Proposal(name, args, head_classes(weights.tensors), tuple(why))


def _stated(shape: Shape, known: Beside, checkpoint: Path) -> tuple[str, dict[str, Any]]:
    """The model that timm's own config.json names, with its arguments. Raises InputError where it is another one."""
    model = on_meta(known.name, **known.args)
    where = f"{known.config} beside checkpoint {checkpoint} names the model '{known.name}'"
    if model is None:
        with_args = f" with {dict(known.args)}" if known.args else ""
        raise InputError(f"{where}{with_args}, which timm {timm.__version__} cannot make.", _ASK)
    try:
        parts = _distance(shape, shape_of(model.state_dict()))[0]
    except KeyError:
        parts = 1
    if parts:
        raise InputError(f"{where}, which has other parts than these weights.", _ASK)
    return known.name, dict(known.args)


def _names(shape: Shape, weights: Weights) -> list[str]:
    """timm's models that may be meant, likeliest first."""
    has, source = shape.pieces, weights.source
    staged = "stages" in has
    if staged:
        pattern = r"swinv2_(?!cr).*" if "logit scale" in has else r"swin_(?!s3).*"
    elif "layer scale of Eva" in has or "biases of queries and values" in has:
        pattern = r"vit_.*_dinov3(?:_qkvb)?" if "DINOv3" in source or shape.registers else r"eva(?:02)?_.*"
    elif "norm before the blocks" in has:
        pattern = r"vit_.*_clip(?:_quickgelu)?_\d+"
    elif "SigLIP" in source or not {"class token", "norm after the pooling"} & has:
        pattern = r"vit_.*_siglip_gap_\d+"
    elif "distillation token" in has:
        pattern = r"deit_.*_distilled_.*"
    elif "layer scale" in has:
        pattern = r"vit_.*_dinov2|deit3_.*"
    else:
        pattern = r"vit_(?:tiny|small|base|large|huge|giant|gigantic)_patch\d+_\d+"
    listed = [name for name in timm.list_models() if re.fullmatch(pattern, name)]
    words = (_STAGED if staged else _SIZES).get(shape.embed_dim, ())
    return [n for n in listed if set(words) & set(n.split("_"))] or [n for n in listed if _USUAL & set(n.split("_"))]


def _best(shape: Shape, names: Iterable[str], told: Traits, checkpoint: Path) -> str:
    """The name of the model that differs least."""
    # All blocks of a stage are alike: one tells as much as all, and is made much faster.
    short = {} if "stages" in shape.pieces else {"depth": 1}
    looked = replace(shape, depths=(1,)) if short else shape
    ranked: list[tuple[tuple[int, ...], str, Any]] = []
    for name in names:
        model = on_meta(name, **short)
        if model is not None:
            ranked.append((_distance(looked, shape_of(model.state_dict())), name, model))
    ranked.sort(key=lambda one: (one[0], "_224" not in one[1], one[1]))
    if not ranked or ranked[0][0][0]:
        raise _unlike(checkpoint, looked, ranked[0][1:] if ranked else None)
    # What computes something else with the same weights: the activation, and the window of Swin V2.
    ways: dict[tuple[str, int], str] = {}
    for distance, name, model in ranked:
        if distance == ranked[0][0]:
            ways.setdefault((activation_of(model), window_of(model)), name)
    left = [way for way in ways if told.activation in ("", way[0]) and (not told.window or way[1] in (0, told.window))]
    if len(ways) == 1 or len(left) == 1 or (told.window and not left):
        return ways[(left or list(ways))[0]]
    named = " and ".join(sorted(ways.values()))
    raise InputError(
        f"Checkpoint {checkpoint} fits {named}: the weights do not tell them apart.",
        f"Name one with --model, or put the model's config.json beside {checkpoint.name}.",
    )


def _unlike(checkpoint: Path, shape: Shape, nearest: tuple[str, Any] | None) -> InputError:
    """nearest: the name of a model that has other parts, and the model."""
    if nearest is None:
        return InputError(f"No timm model has the parts of checkpoint {checkpoint}.", _ASK)
    other = shape_of(nearest[1].state_dict()).pieces
    lacks, has = (", ".join(sorted(pieces)) for pieces in (other - shape.pieces, shape.pieces - other))
    differs = " and ".join([f"lacks: {lacks}"] * bool(lacks) + [f"has besides: {has}"] * bool(has))
    return InputError(
        f"No timm model has the parts of checkpoint {checkpoint}. Against {nearest[0]} it {differs}.", _ASK
    )


def _distance(shape: Shape, other: Shape) -> tuple[int, ...]:
    """The first number is of what no argument changes."""
    differ = set(shape.differences(other))
    fixed = {
        "position embeddings",
        "norm after the pooling",
        "class token",
        "position of the class token",
        "layer scale",
    }
    parts = len((shape.pieces ^ other.pieces) - fixed)
    order = ("embed_dim", "depths", "patch", "heads", "hidden", "registers", "window", "grid")
    return (parts, len(shape.pieces ^ other.pieces), *(int(name in differ) for name in order))


def _arguments(shape: Shape, base: Any, told: Traits, checkpoint: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Of timm.create_model, where the checkpoint differs from what the name alone makes."""
    usual = shape_of(base.state_dict())
    differ = set(shape.differences(usual))
    staged = "stages" in shape.pieces
    args: dict[str, Any] = {}
    if "embed_dim" in differ:
        args["embed_dim"] = shape.embed_dim
    if "depths" in differ:
        args |= {"depths": list(shape.depths)} if staged else {"depth": shape.depths[0]}
    if "patch" in differ:
        args["patch_size"] = shape.patch
    if staged:
        args |= {"num_heads": list(shape.heads)} if "heads" in differ else {}
        window = shape.window or told.window
        args |= {"window_size": window} if window and window != base.layers[0].blocks[0].attn.window_size[0] else {}
    elif "num_heads" not in given:
        args |= _plain_heads(shape, usual, told, base, checkpoint)
    if shape.hidden * usual.embed_dim != usual.hidden * shape.embed_dim:
        args["mlp_ratio"] = round(shape.hidden / shape.embed_dim, 6)
    if "registers" in differ:
        args["num_reg_tokens" if hasattr(base, "num_reg_tokens") else "reg_tokens"] = shape.registers
    if "layer scale" in shape.pieces - usual.pieces:
        args["init_values"] = 1e-5
    if "norm after the pooling" in shape.pieces - usual.pieces:
        args["global_pool"] = "avg"
    if "class token" in usual.pieces - shape.pieces:
        args["class_token"] = False
    elif "position of the class token" in usual.pieces - shape.pieces:
        args["no_embed_class"] = True
    if told.activation and told.activation != activation_of(base) and not staged:
        args["act_layer"] = told.activation
    if told.pooling and told.pooling != str(getattr(base, "global_pool", None) or ""):
        args["global_pool"] = told.pooling
    size = shape.grid * shape.patch or ("img_size" not in given and told.image_size)
    if size and size != side_of(base):
        args["img_size"] = size
    return args


def _plain_heads(shape: Shape, usual: Shape, told: Traits, base: Any, checkpoint: Path) -> dict[str, int]:
    own: int = base.blocks[0].attn.num_heads
    if told.heads:
        return {"num_heads": told.heads} if told.heads != own else {}
    if shape.embed_dim == usual.embed_dim:
        return {}
    if shape.embed_dim % 64 == 0:
        return {"num_heads": shape.embed_dim // 64}
    fits = [n for n in range(1, 65) if shape.embed_dim % n == 0 and math.log2(shape.embed_dim // n) % 1 == 0]
    raise InputError(
        f"Nothing tells how many attention heads checkpoint {checkpoint} has: its {shape.embed_dim} channels are not a "
        "multiple of 64.",
        f"Give --model-arg num_heads=N, such as {', '.join(map(str, fits[:3])) or '1'}.",
    )
