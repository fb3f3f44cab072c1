"""Weights by timm's names, made to fit one model of another image size or head; and what is wrong where they do not."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output

HEAD_KEYS = {f"{head}.{part}" for head in ("head", "head_dist", "head.fc") for part in ("weight", "bias")}
_ARGUMENTS = "Name the timm model it was trained as, with the same arguments (img_size, …)."


def fitted(model: nn.Module, weights: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> dict[str, Tensor]:
    """The weights that `model` takes: without a head that it has not, with position embeddings of its own grid.

    Raises InputError where they are of another model.
    """
    own = model.state_dict()
    kept = {key: value for key, value in weights.items() if key in own or not _spare(key, value, spec)}
    if any(key.startswith("attn_pool.") for key in weights.keys() - kept.keys()):
        progress.say(
            f"Checkpoint {path}: its pooling by attention cannot be cut and is left out. {spec.name} takes the mean of "
            "the patches instead, so its embeddings differ from the original's."
        )
    kept = _resampled(model, kept, path)
    check_fit(model, kept, spec, path)
    return kept


def _spare(key: str, value: Tensor, spec: ModelSpec) -> bool:
    """Whether an entry that the model lacks changes nothing that it is to compute."""
    if key in HEAD_KEYS or key.startswith(("fc_norm.", "head.")):
        return not spec.output.of_classes and not key.startswith("fc_norm.")
    if key.startswith("attn_pool.") or (value.ndim == 0 and not value.is_floating_point()):  # or a counter of training
        return True
    return key.endswith(("q_bias", "v_bias")) and not bool(value.any())


def _resampled(model: nn.Module, weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """What timm does with weights for another image size, patch size or window: `checkpoint_filter_fn` of its class."""
    own = model.state_dict()
    if {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in weights.items()}:
        return weights
    convert = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return weights
    try:
        with torch.no_grad():
            done: dict[str, Tensor] = convert(dict(weights), model)
    except (RuntimeError, ValueError, AssertionError, AttributeError, IndexError, KeyError):
        return weights  # of another model altogether, which `check_fit` says better
    for key, value in done.items():
        if key in weights and key in own and weights[key].shape != value.shape == own[key].shape:
            before, after = (tuple(t.shape) for t in (weights[key], value))
            progress.say(f"Checkpoint {path}: {key} resampled from {before} to {after} for this model.")
    return done


def head_classes(weights: Mapping[str, Tensor]) -> int:
    """Rows of the head among these weights; 0 where there is none."""
    return next((len(weights[key]) for key in ("head.weight", "head.fc.weight") if key in weights), 0)


def head_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What among these weights belongs to a head, whatever its form."""
    return {key: value for key, value in weights.items() if key.startswith(("head.", "head_dist."))}


def without_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's weights."""
    own = head_of(weights)
    return {key: value for key, value in weights.items() if key not in own}


def head_channels(weights: Mapping[str, Tensor]) -> int:
    """Channels of the convolutional head (`ConvMapHead`) among these weights; 0 where there is none."""
    first = weights.get("head.0.weight")
    return len(first) if first is not None and first.ndim == 4 else 0


def head_inputs(weights: Mapping[str, Tensor]) -> int:
    """Channels that the head of a map among these weights reads, of all its blocks together; 0 where there is none."""
    first = weights.get("head.0.weight", weights.get("head.weight"))
    return first.shape[1] if first is not None and first.ndim > 1 else 0


def check_fit(model: nn.Module, weights: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    """Raises InputError unless the weights are those of `model`, with what the difference tells."""
    own = model.state_dict()
    if spec.output is Output.MAP:
        _check_map_head(own, weights, spec, path)
    wrong = {k for k in own if k in weights and own[k].shape != weights[k].shape}
    missing, extra = own.keys() - weights.keys(), weights.keys() - own.keys()
    if wrong and wrong <= HEAD_KEYS and not missing and not extra:
        raise _other_head(own, weights, spec, path, min(wrong))
    if missing and missing <= HEAD_KEYS and not wrong and not extra:
        raise _no_head(spec, path)
    if bad := sorted(wrong) + sorted(missing) + sorted(extra):
        key = bad[0]
        state = "has another shape" if key in wrong else "is missing" if key in missing else "is unexpected"
        more = f" ({len(bad)} tensors differ)" if len(bad) > 1 else ""
        raise InputError(
            f"Checkpoint {path} does not fit '{spec.name}' with {dict(spec.args)}: {key} {state}{more}.",
            _hint(own, weights, missing, extra),
        )


def _no_head(spec: ModelSpec, path: Path) -> InputError:
    message = f"Checkpoint {path} has no head: it is a backbone, whose outputs are no classes."
    otherwise = 'set task = "features" or "retrieve" in [model], or give the weights with the trained head.'
    if spec.output is not Output.LOGITS:
        hints = {"--task": "Give --task features or retrieve, or the weights with the trained head."}
        return InputError(message, f"{otherwise[0].upper()}{otherwise[1:]}", hints)
    return InputError(
        message,
        f"Fit one with `wdp-edge fit-head`, {otherwise}",
        {"--fit-head": "Give --fit-head, which fits one to your images, --task features or retrieve, or that head."},
    )


def _other_head(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], spec: ModelSpec, path: Path, key: str
) -> InputError:
    given = weights[key if key.endswith("weight") else key.replace("bias", "weight")]
    width = own[key.replace("bias", "weight")].shape[1]
    if given.ndim == 2 and given.shape[1] != width:
        return InputError(
            f"The head of checkpoint {path} reads {given.shape[1]} values, the model gives it {width}: something "
            "stands between them, such as a neck, or it reads the mean of all patches beside the class token.",
            'Set task = "features" or "retrieve" in [model], which take the model without its head.',
            {"--task": "Give --task features or retrieve, which take the model without its head."},
        )
    return InputError(
        f"Checkpoint {path} has {len(given)} classes, but the recipe says {spec.num_classes}.",
        f"Set num_classes = {len(given)} in [model].",
        {
            "--fit-head": f"Set num_classes = {len(given)} in [model] or give --num-classes, for its own classes; "
            "or --fit-head, which fits a new head to the classes of your images.",
            "--num-classes": f"Set num_classes = {len(given)} in [model] or give --num-classes.",
        },
    )


def _hint(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], missing: Iterable[str], extra: Iterable[str]
) -> str:
    """What to do, by the first difference that has a cause."""
    lacks, has = set(missing), set(extra)
    if {"fc_norm.weight", "fc_norm.bias"} <= has and {"norm.weight", "norm.bias"} <= lacks:
        return 'It pools by the mean of the patches: set global_pool = "avg" in [model.args].'
    if {"norm.weight", "norm.bias"} <= has and {"fc_norm.weight", "fc_norm.bias"} <= lacks:
        return 'It reads the class token: set global_pool = "token" in [model.args].'
    if any(re.search(r"\.ls[12]\.gamma$", key) for key in has):
        return "It has layer scales: set init_values = 1e-5 in [model.args]."
    blocks = [len({k.split(".")[1] for k in side if k.startswith("blocks.")}) for side in (weights, own)]
    if all(blocks) and blocks[0] != blocks[1]:
        return f"It has {blocks[0]} blocks, the model {blocks[1]}. {_ARGUMENTS}"
    first = "patch_embed.proj.weight"
    if first in weights and first in own and len(weights[first]) != len(own[first]):
        return f"It is {len(weights[first])} channels wide, the model {len(own[first])}. {_ARGUMENTS}"
    if lacks and not has:
        return f"If the file holds only a part of the model, give all of it. {_ARGUMENTS}"
    return _ARGUMENTS


def _check_map_head(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    """Raises InputError when the head of a map is of another kind, or reads other blocks."""
    channels = head_channels(weights)
    if channels != spec.head_channels:
        has = f"a convolutional head of {channels} channels" if channels else "no convolutional head"
        raise InputError(
            f"Checkpoint {path} has {has}, but the recipe says head_channels = {spec.head_channels}.",
            f"Set head_channels = {channels} in [model].",
        )
    if head_inputs(weights) not in (0, head_inputs(own)):
        raise InputError(
            f"The head of checkpoint {path} reads {head_inputs(weights)} channels, that of the recipe's model "
            f"{head_inputs(own)}.",
            "Name the blocks that it reads, in their order, with head_blocks in [model].",
        )
