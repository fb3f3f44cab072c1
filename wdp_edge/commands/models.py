"""What is known of models before they are trained: families, and what of one model can be pruned."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch

from wdp_edge import progress
from wdp_edge.errors import InputError, SetupError
from wdp_edge.io.files import cache_root, read_json, write_json
from wdp_edge.io.plain import from_plain
from wdp_edge.models import vit
from wdp_edge.models.families import FAMILIES, family_of
from wdp_edge.models.families.base import Family
from wdp_edge.models.forms import check_forward
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.structure import Structure, count
from wdp_edge.protocols.task import Output

RESULT_VERSION = 1
CLASSES = 1000


@dataclass(frozen=True)
class FamilyFigures:
    """A family, and timm's names of its models that can be pruned."""

    name: str
    models: str
    dimensions: list[str]
    names: list[str]


@dataclass(frozen=True)
class KnownModels:
    """`wdp_edge.known_models`."""

    families: list[FamilyFigures]
    timm: str
    version: int = RESULT_VERSION


@dataclass(frozen=True)
class Dimension:
    """Something of a model that pruning may make smaller. widths: as they are, one for each block or one for all.

    fixed: why it stays as it is; empty where it can be cut.
    """

    name: str
    widths: list[int]
    fixed: str = ""


@dataclass(frozen=True)
class ModelDescription:
    """`wdp_edge.describe_model`: the dense model. macs: of one image of its own size, each counted once."""

    model: str
    args: dict[str, Any]
    family: str
    num_classes: int
    size: tuple[int, int]
    tokens: int
    structure: Structure
    parameters: int
    macs: int
    dimensions: list[Dimension] = field(default_factory=list)
    version: int = RESULT_VERSION


def known_models(cache: Path | None = None) -> KnownModels:
    """Every family that can be pruned, with the names of timm's models that can.

    Each of them is made once, without weights, to see; cache: folder for what was seen, `cache_root()` when None.
    """
    figures, found = [], _names(cache or cache_root())
    for family in FAMILIES:
        dimensions = ["heads", "hidden units", "blocks"]
        dimensions += ["channels of heads"] * family.narrows_heads + ["whole sub-layers"] * family.drops
        figures.append(FamilyFigures(family.name, family.models, dimensions, found[family.name]))
    return KnownModels(figures, timm.__version__)


def _names(cache: Path) -> dict[str, list[str]]:
    """By family; kept for as long as timm and wdp-edge stay the same."""
    path = cache / f"models-{timm.__version__}-{version('wdp-edge')}.json"
    if path.is_file():
        with contextlib.suppress(InputError):  # damaged: made again
            kept: dict[str, list[str]] = from_plain(dict[str, list[str]], read_json(path))
            return kept
    listed = [(f, name) for f in FAMILIES for module in f.modules for name in timm.list_models(module=module)]
    found: dict[str, list[str]] = {family.name: [] for family in FAMILIES}
    with progress.task("look at timm's models", len(listed)) as advance:
        for family, name in listed:
            found[family.name] += [name] if _works(name, family) else []
            advance(1)
    found = {family: sorted(names) for family, names in found.items()}
    with contextlib.suppress(SetupError):  # a folder that cannot be written costs a minute, not the answer
        write_json(path, found)
    return found


def _works(name: str, family: Family) -> bool:
    """Whether the model can be pruned: made without weights and of the least depth, since all its blocks are alike.

    Where timm cannot make so shallow a model, because an argument has a value for each block, all of it is made.
    """
    for args in (family.shallow, {}):
        with torch.device("meta"):
            try:
                return isinstance(create(ModelSpec(name, CLASSES, args)), family.types)
            except InputError as error:
                if error.__cause__ is None:  # it was made, and is of a form that cannot be pruned
                    return False
    return False


def describe_model(name: str, args: Mapping[str, Any] | None = None, num_classes: int = CLASSES) -> ModelDescription:
    """Widths, parameters and MACs of a timm model, without making its weights.

    args: of timm.create_model. Raises InputError for a model that timm does not have or that cannot be pruned.
    """
    with torch.device("meta"):
        model: Any = create(ModelSpec(name, num_classes, dict(args or {})))
        structure = vit.structure_of(model)
        counts = count(structure, vit.geometry_of(model))
        check_forward(model, name, dict(args or {}), Output.LOGITS, num_classes)
    family, size = family_of(model), model.patch_embed.img_size
    return ModelDescription(
        model=name,
        args=dict(args or {}),
        family=family.name,
        num_classes=num_classes,
        size=(int(size[0]), int(size[1])),
        tokens=family.tokens(model),
        structure=structure,
        parameters=counts.parameters,
        macs=counts.macs,
        dimensions=dimensions_of(model, structure),
    )


def dimensions_of(model: Any, structure: Structure) -> list[Dimension]:
    """Every dimension of the model, those that stay as they are among them."""
    family, reason = family_of(model), vit.fixed_heads(model)
    return [
        Dimension("heads", [b.heads for b in structure.blocks]),
        Dimension("channels of a head", [b.head_dim for b in structure.blocks], f"heads {reason}" if reason else ""),
        Dimension("hidden units", [b.hidden for b in structure.blocks]),
        Dimension("blocks", [structure.depth]),
        Dimension("sub-layers", [2 * structure.depth], "" if family.drops else "blocks keep both"),
        Dimension("residual stream", [structure.embed_dim], "keeps its width"),
    ]
