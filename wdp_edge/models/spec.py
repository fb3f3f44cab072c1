"""How to make a timm model again: name, arguments, classes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
from torch import nn

from wdp_edge.errors import InputError
from wdp_edge.models import vit


@dataclass(frozen=True)
class ModelSpec:
    """Arguments of `timm.create_model`."""

    name: str
    num_classes: int
    args: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "num_classes": self.num_classes, "args": dict(self.args)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelSpec:
        return cls(str(data["name"]), int(data["num_classes"]), dict(data["args"]))


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
    if spec.num_classes < 2:
        raise InputError(
            f"Model '{spec.name}' needs at least 2 classes, not {spec.num_classes}.",
            "Set num_classes in [model] or give --num-classes.",
        )
    try:
        model = timm.create_model(spec.name, pretrained=False, num_classes=spec.num_classes, **spec.args)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InputError(
            f"timm cannot make '{spec.name}' with {dict(spec.args)}: {error}.", "Check [model] args."
        ) from error
    vit.check_supported(model, spec.name)
    return model.eval()
