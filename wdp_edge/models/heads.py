"""Linear layers of a checkpoint that may be heads, beside the one that is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from wdp_edge.errors import InputError
from wdp_edge.models.spec import ModelSpec
from wdp_edge.protocols.task import Output

# By timm's names.
READ = ("head.weight", "head_dist.weight", "head.fc.weight")
_HEAD = re.compile(r"(?:.*\.)?(?!text_|decode|mask)(?:\w*head\w*|classifier\w*|fc|linear)(?:\.\d+|\.fc)?\.weight")


def heads_among(weights: Mapping[str, Tensor], width: int) -> dict[str, int]:
    """Names of linear layers that read `width` channels and are named as heads are, each with its outputs."""
    return {
        name.removesuffix(".weight"): len(value)
        for name, value in weights.items()
        if _HEAD.fullmatch(name) and value.ndim == 2 and value.shape[1] == width
    }


def check_heads(path: Path, spec: ModelSpec, own: int, others: Mapping[str, int]) -> None:
    """own: classes of the head that is read; 0 without one. others: of `heads_among`.

    Raises InputError for a classifier where it is not clear which head makes its classes.
    """
    if spec.output is not Output.LOGITS or not others:
        return
    numbered = {name for name in others if re.fullmatch(r"(?:.*\.)?(?:head|classifier|fc)\.\d+", name)}
    if not own and numbered == set(others):
        raise InputError(
            f"Checkpoint {path} has a head of several layers ({', '.join(sorted(others))}); timm's model has one.",
            'Set task = "features" or "retrieve" in [model], which take the model without its head.',
            {"--task": "Give --task features or retrieve, which take the model without its head."},
        )
    if own == spec.num_classes and spec.num_classes not in others.values():
        return
    named = [f"{name} ({classes} outputs)" for name, classes in others.items()]
    if not own and len(named) == 1:
        raise InputError(
            f"Checkpoint {path} has no head where timm's model has its own, but {named[0]} beside it.",
            "If that is its head, save it with the weights as head.weight and head.bias.",
        )
    named = [f"the model's own ({own} outputs)"] * bool(own) + named
    raise InputError(
        f"Checkpoint {path} has {len(named)} heads: {', '.join(named)}.",
        "Save the weights with the one that counts as head.weight and head.bias, and without the others.",
    )
