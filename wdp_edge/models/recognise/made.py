"""The timm model that a module in memory is: its name and arguments, and whether timm makes the same of them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from wdp_edge.errors import InputError
from wdp_edge.models.checkpoints import Weights
from wdp_edge.models.families import FAMILIES, known_families
from wdp_edge.models.originals import TOLERANCE
from wdp_edge.models.recognise.beside import Beside
from wdp_edge.models.recognise.image_processor import of_timm
from wdp_edge.models.recognise.proposal import Proposal, propose
from wdp_edge.models.recognise.traits import traits_of
from wdp_edge.models.spec import ModelSpec, create
from wdp_edge.models.user_code import ran
from wdp_edge.protocols.task import Output

_TYPES = tuple(kind for family in FAMILIES for kind in family.types)
_LIBRARIES = ("transformers.", "torchvision.", "open_clip.")
_ITSELF = "Return the timm model itself."
_CUSTOM = "Layers of your own cannot be cut: return a model that timm.create_model makes."


@dataclass(frozen=True)
class Made:
    """whole: what the user's function returned. inner: the timm model in it. ours: the same, made by timm again.

    preprocess: where the model's pretrained_cfg differs from timm's for the name. dropped: names of arguments that the
    function gave timm and no recipe can hold.
    """

    reference: str
    whole: nn.Module
    inner: nn.Module
    ours: nn.Module
    proposal: Proposal
    preprocess: dict[str, Any]
    dropped: list[str]

    @torch.no_grad()
    def difference(self, images: Tensor, what: str) -> float:
        """The largest, as a share of the largest output. images: [n, 3, H, W] float32. what: "a random image" or such.

        Raises InputError where the two do not compute the same.
        """
        got = ran(lambda: self.whole(images), f"The model of {self.reference} on {what}", _ITSELF)
        if not isinstance(got, Tensor):
            raise InputError(f"The model of {self.reference} outputs a {type(got).__name__}, not a tensor.", _ITSELF)
        expected = self.ours(images)
        apart = _apart(got, expected)
        if apart <= TOLERANCE:
            return apart
        name = type(self.whole).__name__
        if self.whole is not self.inner and _apart(self.inner(images), expected) <= TOLERANCE:
            raise InputError(
                f"{self.reference} returns a {name} around a timm model, and it changes the outputs.",
                "Return the model inside of it, and give what prepares images as --preprocess.",
            )
        raise InputError(
            f"The model of {self.reference} and timm's '{self.proposal.name}' with {self.proposal.args} and the same "
            f"weights differ by {apart:.1e} of the largest output on {what}: {name} computes something of its own"
            f"{_not_plain(self.dropped)}.",
            _CUSTOM,
        )


def _apart(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return float("inf")
    return float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def timm_model(whole: nn.Module, reference: str, name: str = "", args: Mapping[str, Any] | None = None) -> Made:
    """name, args: of timm.create_model as far as the user gave them; they win.

    Raises InputError where there is no timm model in `whole`, several, or one that timm does not make again.
    """
    inner: Any = _inside(whole, reference)
    recorded, dropped = _recorded(inner)
    weights = inner.state_dict()
    try:
        told = replace(traits_of(inner), epsilon=0.0)
        proposal = _proposed(weights, reference, name or _architecture(inner), recorded, told, dict(args or {}))
    except (AttributeError, StopIteration, KeyError) as error:
        raise InputError(f"The model of {reference} has blocks that timm's models do not have.", _CUSTOM) from error
    output = Output.LOGITS if proposal.num_classes else Output.EMBEDDING
    ours = create(ModelSpec(proposal.name, proposal.num_classes, proposal.args, output))
    try:
        ours.load_state_dict(weights)
    except RuntimeError as error:
        own, theirs = ours.state_dict(), weights
        odd = sorted(k for k in own.keys() | theirs.keys() if k not in own or k not in theirs)
        odd = odd or sorted(k for k in own if own[k].shape != theirs[k].shape)
        raise InputError(
            f"The model of {reference} is not timm's '{proposal.name}' with {proposal.args}: {odd[0]} differs "
            f"({len(odd)} tensors do){_not_plain(dropped)}.",
            _CUSTOM,
        ) from error
    own_cfg, cfg = (of_timm(dict(getattr(m, "pretrained_cfg", None) or {})) for m in (ours, inner))
    preprocess = {k: list(v) if isinstance(v, tuple) else v for k, v in cfg.items() if own_cfg.get(k) != v}
    return Made(reference, whole, inner, ours, proposal, preprocess, dropped)


def _not_plain(arguments: list[str]) -> str:
    return f"; {', '.join(arguments)} of its arguments cannot stand in wdp-edge.toml" if arguments else ""


def _inside(whole: nn.Module, reference: str) -> nn.Module:
    found: dict[str, nn.Module] = {}
    module: nn.Module
    for path, module in whole.named_modules():
        if isinstance(module, _TYPES) and not any(path.startswith(f"{above}.") or not above for above in found):
            found[path] = module
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise InputError(
            f"{reference} returns a model with {len(found)} Vision Transformers in it ({', '.join(found)}).",
            "Return the one that is to be pruned.",
        )
    kind = type(whole)
    library = kind.__module__.startswith(_LIBRARIES)
    raise InputError(
        f"{reference} returns a {kind.__name__} of {kind.__module__}, which is no timm model that can be pruned.",
        "Save its weights, with save_pretrained or torch.save(model.state_dict(), …), and give them with --checkpoint."
        if library
        else known_families(),
    )


def _architecture(model: Any) -> str:
    config = getattr(model, "pretrained_cfg", None) or {}
    name = config.get("architecture") if isinstance(config, Mapping) else None
    return name if isinstance(name, str) and timm.is_model(name) else ""


def _recorded(model: Any) -> tuple[dict[str, Any], list[str]]:
    """Arguments that timm noted when it made the model, as far as a recipe can hold them, and names of the others."""
    own = set(inspect.signature(timm.create_model).parameters) - {"kwargs"} | {"num_classes"}
    kept: dict[str, Any] = {}
    dropped = []
    for key, value in getattr(model, "_model_args", {}).items():
        # Rates of dropping act in training alone: learning and recovery have timm's own for the name.
        if key in own or value is None or (key == "in_chans" and value == 3) or re.fullmatch(r"(.*_)?drop.*_rate", key):
            continue
        try:
            kept[key] = json.loads(json.dumps(value))
        except TypeError:
            dropped.append(key)
    return kept, dropped


def _proposed(
    tensors: dict[str, Tensor], reference: str, name: str, recorded: dict[str, Any], told: Any, given: dict[str, Any]
) -> Proposal:
    weights, place = Weights(tensors), Path(reference)
    attempts = [Beside(traits=told)]
    if name:
        attempts.insert(0, Beside(name=name, args={**recorded, **given}, traits=told))
    for known in attempts[:-1]:
        try:
            return propose(weights, place, given, known)
        except InputError:
            continue  # made by hand, with another geometry than its name says
    try:
        return propose(weights, place, given, attempts[-1])
    except InputError as error:
        raise InputError(
            f"timm has no model with the parts of that of {reference}.",
            f"{_CUSTOM} If it is one, name it with --model, and its arguments with --model-arg.",
        ) from error
