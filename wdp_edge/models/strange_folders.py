"""A folder given as a checkpoint that no weights can be taken from: what it is, and what to do instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from wdp_edge.errors import InputError

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
FORMATS = "Use a .safetensors, or a .pt/.pth that torch.load(weights_only=True) reads."
MAX_NAMED = 3
# Of what training saves beside weights.
_STATE = re.compile(r"(?:optimizer|scheduler|rng_state\w*|training_args|scaler)\.(?:bin|pth?)|adapter_.*")
_DISTRIBUTED = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth"

# What a folder's names are like: what it is, and what to do. The first that fits counts.
_KINDS: tuple[tuple[str, Callable[[set[str]], bool], str], ...] = (
    (
        "holds adapters (LoRA or the like) without the model that they change",
        lambda names: "adapter_config.json" in names,
        "Merge them into it (peft: model.merge_and_unload()), save that with save_pretrained, and give its folder.",
    ),
    (
        "is a checkpoint of DeepSpeed, in parts",
        lambda names: (
            "zero_to_fp32.py" in names or any(re.fullmatch(r"mp_rank_\d+_model_states\.pt", n) for n in names)
        ),
        "Put it together with the script that DeepSpeed saved in it: python zero_to_fp32.py . OUTPUT.",
    ),
    (
        "is a checkpoint of torch.distributed (FSDP), in parts",
        lambda names: any(name.endswith(".distcp") for name in names),
        f"Put it together: {_DISTRIBUTED}",
    ),
    (
        "is an exported model, not a trained one",
        lambda names: bool({"saved_model.pb", "Manifest.json"} & names) or any(n.endswith(".onnx") for n in names),
        f"Give the weights that it was exported from: {FORMATS[4:]}",
    ),
    (
        "holds weights for TensorFlow or Flax, and none for PyTorch",
        lambda names: any(name.endswith((".h5", ".msgpack")) for name in names),
        "Load them in the library that wrote them, and save them for PyTorch.",
    ),
)


def unreadable(path: Path) -> InputError:
    """For a folder without a single file of weights under one of the usual names."""
    names = _names(path)
    weights = sorted(n for n in names if n.lower().endswith(WEIGHT_SUFFIXES) and not _STATE.fullmatch(n))
    for what, fits, hint in _KINDS:
        if fits(names) and (not weights or "adapters" in what or "DeepSpeed" in what):
            return InputError(f"Checkpoint {path} {what}.", hint)
    if any(re.search(r"-\d+-of-\d+\.", name) for name in weights):
        hint = "The index of its parts is missing: put the *.index.json that was saved with them beside them."
        return InputError(f"Checkpoint {path} is a folder.", hint)
    if weights:
        return InputError(f"Checkpoint {path} is a folder.", f"Name the file in it: {_named(path, weights)}.")
    if below := _below(path):
        return InputError(
            f"Checkpoint {path} is a folder, with weights in folders below it.", f"Name one: {_named(path, below)}."
        )
    return InputError(f"Checkpoint {path} is a folder, with no weights files in it.", FORMATS)


def _names(path: Path) -> set[str]:
    try:
        return {entry.name for entry in path.iterdir() if entry.is_file()}
    except OSError:
        return set()


def _below(path: Path) -> list[str]:
    """Folders at most two levels down that hold files of weights."""
    try:
        return sorted(
            {
                str(file.parent.relative_to(path))
                for pattern in ("*/*", "*/*/*")
                for file in path.glob(pattern)
                if file.name.lower().endswith(WEIGHT_SUFFIXES) and not _STATE.fullmatch(file.name)
            }
        )
    except OSError:
        return []


def _named(path: Path, names: Iterable[str]) -> str:
    found = list(names)
    return " or ".join(str(path / name) for name in found[:MAX_NAMED]) + (" …" if len(found) > MAX_NAMED else "")
