"""Models on disk: trained checkpoints in, `structure.json` + `model.safetensors` in and out. Never a pickle."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save as serialised
from torch import Tensor, nn

from wdp_edge import progress
from wdp_edge.errors import InputError
from wdp_edge.io.files import write_bytes, write_json
from wdp_edge.io.plain import read_as
from wdp_edge.models.checkpoints import read_checkpoint, read_weights
from wdp_edge.models.fitting import check_fit, fitted, head_of, without_head
from wdp_edge.models.forms import check_forward
from wdp_edge.models.heads import READ, check_heads
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure
from wdp_edge.models.surgery import build
from wdp_edge.models.vit import structure_of

_DEEPEST = 1000
_PRUNED_AWAY, _SMALL = 64, 1 << 24  # the largest share that a cut leaves behind, and a model that any machine makes


@dataclass(frozen=True)
class SavedModel:
    """`structure.json` of a saved model."""

    version: Literal[1] = field(default=1, kw_only=True)
    model: ModelSpec
    structure: Structure


def load_dense(spec: ModelSpec, checkpoint: Path, key: str = "", prefix: str = "", new_head: bool = False) -> nn.Module:
    """The trained model, in eval mode, float32; one that outputs embeddings without the checkpoint's head, if any.

    key, prefix: as in `read_checkpoint`. new_head: leave out the checkpoint's head, if any, and keep the one of random
    weights that timm makes. Raises InputError for a missing or corrupt checkpoint, one of another
    architecture or of another class count, and for values that cannot be weights.
    """
    model = create(spec)
    read = read_checkpoint(checkpoint, key, prefix)
    if read.choice:
        progress.say(f"Checkpoint {checkpoint}: {read.choice}. Set checkpoint_key or checkpoint_prefix in [model].")
    if read.source != "timm" or read.unused or read.left_out:
        progress.say(f"Checkpoint {checkpoint}: {read.summary}.")
    tensors = {**without_head(read.tensors), **head_of(model.state_dict())} if new_head else read.tensors
    if not new_head:
        own = next((len(tensors[key]) for key in READ if key in tensors), 0)
        check_heads(checkpoint, spec, own, read.heads)
    weights = fitted(model, tensors, spec, checkpoint)
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
                "Use the weights as they were before quantization.",
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


def save(model: nn.Module, spec: ModelSpec, folder: Path) -> None:
    """Writes `structure.json` (timm name and arguments + Structure) and `model.safetensors`."""
    write_bytes(folder / "model.safetensors", serialised({k: v.contiguous() for k, v in model.state_dict().items()}))
    write_json(folder / "structure.json", SavedModel(spec, structure_of(model)))


def read_spec(folder: Path) -> tuple[ModelSpec, Structure]:
    """The model saved in `folder`. Raises InputError where its structure.json is missing or damaged."""
    saved = read_as(folder / "structure.json", SavedModel)
    return saved.model, saved.structure


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
    check_fit(model, weights, spec, weights_path)
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
