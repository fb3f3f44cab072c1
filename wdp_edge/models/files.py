"""Models on disk: trained checkpoints in, `structure.json` + `model.safetensors` in and out. Never a pickle."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.files import read_json, write_bytes, write_json
from wdp_edge.models.checkpoints import read_checkpoint, read_weights
from wdp_edge.models.forms import check_forward
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.surgery import build
from wdp_edge.models.vit import structure_of
from wdp_edge.structure import Structure
from wdp_edge.task import Output

MODEL_VERSION = 1
_HEADS = {f"{head}.{part}" for head in ("head", "head_dist", "head.fc") for part in ("weight", "bias")}
_DEEPEST = 1000
_PRUNED_AWAY, _SMALL = 64, 1 << 24  # the largest share that a cut leaves behind, and a model that any machine makes


def load_dense(spec: ModelSpec, checkpoint: Path, key: str = "") -> nn.Module:
    """The trained model, in eval mode, float32; one that puts out embeddings without the checkpoint's head, if any.

    key: as in `read_checkpoint`. Raises InputError for a missing or corrupt checkpoint, one of another architecture or
    of another class count, and for values that cannot be weights.
    """
    model = create(spec)
    read = read_checkpoint(checkpoint, key)
    if read.choice:
        progress.say(f"Checkpoint {checkpoint}: {read.choice}. Set checkpoint_key in [model] to choose.")
    weights = read.tensors
    if not spec.output.of_classes:
        weights = {k: v for k, v in weights.items() if k not in _HEADS}
    _check_fit(model, weights, spec, checkpoint)
    model.load_state_dict(_as_floats(model, weights, checkpoint))
    check_forward(model.eval(), spec.name, spec.args, spec.output, spec.num_classes)
    return model


def _as_floats(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights in the types of a float32 model. Raises InputError for the first that cannot be one."""
    found = {}
    for name, own in model.state_dict().items():
        given = weights[name]
        if own.is_floating_point() and not given.is_floating_point():
            raise InputError(
                f"Checkpoint {path} holds {_type_name(given)} in {name}, not floating-point weights.",
                "Give the weights from before they were quantized.",
            )
        value = given.float() if given.is_floating_point() else given
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise _not_finite(path, name, given, value)
        found[name] = value
    return found


def _not_finite(path: Path, name: str, given: Tensor, value: Tensor) -> InputError:
    wrong = int((~torch.isfinite(value)).sum())
    what = "NaN" if bool(torch.isnan(value).any()) else "infinite"
    hint = "Give the weights of an earlier epoch: training diverged before these were saved."
    if what == "infinite" and given.dtype is torch.float16:
        hint = "Values beyond 65504 became infinite in float16: save the weights in float32."
    elif bool(torch.isfinite(given).all()):
        hint = "Its values are beyond the range of float32, in which models are computed."
    return InputError(f"Checkpoint {path} holds {what} values in {name} ({wrong} of {value.numel()}).", hint)


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def head_channels(weights: Mapping[str, Tensor]) -> int:
    """Channels of the convolutional head (`ConvMapHead`) among these weights; 0 where there is none."""
    first = weights.get("head.0.weight")
    return len(first) if first is not None and first.ndim == 4 else 0


def head_inputs(weights: Mapping[str, Tensor]) -> int:
    """Channels that the head of a map among these weights reads, of all its blocks together; 0 where there is none."""
    first = weights.get("head.0.weight", weights.get("head.weight"))
    return first.shape[1] if first is not None and first.ndim > 1 else 0


def _check_fit(model: nn.Module, weights: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    own = model.state_dict()
    if spec.output is Output.MAP:
        _check_map_head(own, weights, spec, path)
    wrong = {k for k in own if k in weights and own[k].shape != weights[k].shape}
    missing, extra = own.keys() - weights.keys(), weights.keys() - own.keys()
    if wrong and wrong <= _HEADS and not missing and not extra:
        classes = len(weights[min(wrong)])
        raise InputError(
            f"Checkpoint {path} has {classes} classes, the recipe says {spec.num_classes}.",
            f"Set num_classes = {classes} in [model].",
            {"--num-classes": f"Set num_classes = {classes} in [model] or give --num-classes."},
        )
    if bad := sorted(wrong) + sorted(missing) + sorted(extra):
        key = bad[0]
        state = "has another shape" if key in wrong else "is missing" if key in missing else "is unexpected"
        raise InputError(
            f"Checkpoint {path} is not one of '{spec.name}' with {dict(spec.args)}: {key} {state}"
            f"{f' ({len(bad)} tensors differ)' if len(bad) > 1 else ''}.",
            "Name the timm model it was trained as, with the same arguments (img_size, …).",
        )


def _check_map_head(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], spec: ModelSpec, path: Path) -> None:
    """Raises InputError when the head of a map is of another kind, or reads other blocks."""
    channels = head_channels(weights)
    if channels != spec.head_channels:
        has = f"a convolutional head of {channels} channels" if channels else "no convolutional head"
        raise InputError(
            f"Checkpoint {path} has {has}, the recipe says head_channels = {spec.head_channels}.",
            f"Set head_channels = {channels} in [model].",
        )
    if head_inputs(weights) not in (0, head_inputs(own)):
        raise InputError(
            f"The head of checkpoint {path} reads {head_inputs(weights)} channels, that of the recipe's model "
            f"{head_inputs(own)}.",
            "Name the blocks that it reads, in their order, with head_blocks in [model].",
        )


def save(model: nn.Module, spec: ModelSpec, folder: Path) -> None:
    """Writes `structure.json` (timm name and arguments + Structure) and `model.safetensors`."""
    write_bytes(folder / "model.safetensors", serialised({k: v.contiguous() for k, v in model.state_dict().items()}))
    data = {"version": MODEL_VERSION, "model": spec.to_json(), "structure": structure_of(model).to_json()}
    write_json(folder / "structure.json", data)


def read_spec(folder: Path) -> tuple[ModelSpec, Structure]:
    data = read_json(folder / "structure.json")
    try:
        return ModelSpec.from_json(data["model"]), Structure.from_json(data["structure"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{folder / 'structure.json'} is not a saved model.", "Point to a folder that wdp-edge wrote."
        ) from error


def load(folder: Path | str) -> nn.Module:
    """A saved (shrunk) model as a plain timm module, in eval mode, float32."""
    folder = Path(folder)
    spec, structure = read_spec(folder)
    weights_path = folder / "model.safetensors"
    if not weights_path.is_file():
        raise InputError(f"{weights_path} does not exist.", "Point to a folder that wdp-edge wrote.")
    weights = read_weights(weights_path)
    _check_size(spec, structure, sum(w.numel() for w in weights.values()), folder)
    model = build(spec, structure)
    _check_fit(model, weights, spec, weights_path)
    model.load_state_dict(weights)
    return model.eval()


def _check_size(spec: ModelSpec, structure: Structure, numbers: int, folder: Path) -> None:
    """Raises InputError before a model is made that is out of all proportion to its weights. numbers: of the weights.

    Every width, image side and class has weights of its own; a dense model before it was cut has more than is left.
    """
    stated = [spec.num_classes, *_integers(dict(spec.args)), structure.embed_dim, structure.depth]
    depths = [spec.args.get("depth", 0), *_integers(spec.args.get("depths", 0)), structure.depth]
    fits = max(stated) <= numbers and max(d for d in depths if isinstance(d, int)) <= _DEEPEST
    if fits:
        with contextlib.suppress(NotImplementedError), torch.device("meta"):
            # Only shapes: nothing is allocated. Families that compute with tensors while they are made are let through.
            fits = sum(p.numel() for p in create(spec).parameters()) <= _PRUNED_AWAY * numbers + _SMALL
    if not fits:
        raise InputError(
            f"{folder / 'structure.json'} describes a model that is much larger than the weights beside it.",
            "Restore the file, or point to a folder that wdp-edge wrote.",
        )


def _integers(value: Any) -> list[int]:
    """Every number of nested arguments, rounded up."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for inner in value for number in _integers(inner)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"A model's arguments cannot hold {value}.", "Restore structure.json.")
    return [math.ceil(value)] if isinstance(value, int | float) else [0]
