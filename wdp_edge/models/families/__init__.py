"""The families of models that can be pruned, and which one a model belongs to."""

from __future__ import annotations

from typing import Any

from wdp_edge.errors import InputError
from wdp_edge.models.families.base import Family
from wdp_edge.models.families.eva import EvaFamily
from wdp_edge.models.families.plain import PlainViT
from wdp_edge.models.families.swin import Swin, SwinV2

FAMILIES: tuple[Family, ...] = (PlainViT(), EvaFamily(), Swin(), SwinV2())


def find_family(model: Any) -> Family | None:
    """The family that the model's class belongs to, or None."""
    return next((f for f in FAMILIES if type(model) in f.types), None)


def family_of(model: Any) -> Family:
    """Raises InputError when the model's class belongs to none."""
    if (family := find_family(model)) is None:
        raise InputError(f"A {type(model).__name__} cannot be pruned.", known_families())
    return family


def known_families() -> str:
    """One sentence for users."""
    return f"Known families: {'; '.join(f'{f.name} ({f.models})' for f in FAMILIES)}."


def unsupported(model: Any) -> str | None:
    """Why the model cannot be pruned, or None."""
    family = find_family(model)
    return f"it is a {type(model).__name__}" if family is None else family.unsupported(model)
