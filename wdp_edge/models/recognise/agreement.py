"""Whether the model that a user names computes what the files beside the weights say: weights alone often fit both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from wdp_edge.errors import InputError
from wdp_edge.models.recognise.beside import Beside
from wdp_edge.models.recognise.traits import Traits, on_meta, traits_of

# Between 1e-12 and 1e-6, which transformers and timm have for the same models, outputs do not differ visibly.
_EPSILON = 5e-6
# Trait: what it is called, and the argument of timm.create_model that sets it. With another one, outputs are wrong.
_COMPUTED = {
    "heads": ("attention heads", "num_heads"),
    "activation": ("activation", "act_layer"),
    "window": ("window", "window_size"),
    "pooling": ("pooling", "global_pool"),
}
# With another one it is another model.
_FORM = {"width": "channels", "depth": "blocks", "patch": "pixels in a patch"}


def disagreements(name: str, args: Mapping[str, Any], given: Collection[str], known: Beside) -> tuple[bool, list[str]]:
    """Whether the files are of this model at all, and what to warn of.

    name, args: of the timm model. given: names of the arguments that the user chose, which win over the files.
    Raises InputError where the model would load the weights and compute something else.
    """
    model = on_meta(name, **args)
    if model is None or not known.config:
        return True, []  # what timm says of these arguments is said where the model is made
    own, said = traits_of(model), list[str]()
    told: Traits | None = known.traits
    if known.name:
        original = on_meta(known.name, **known.args)
        try:
            told = traits_of(original)
        except AttributeError:
            told = None
    if told is None or (differ := _of_another(own, told)):
        return False, [_not_used(name, known, differ if told else "")]
    for trait, (called, argument) in _COMPUTED.items():
        theirs, ours = getattr(told, trait), getattr(own, trait)
        if not theirs or not ours or theirs == ours:
            continue
        message = f"{known.config} beside the weights says {called} {theirs}, '{name}' has {ours}"
        if argument not in given:
            raise InputError(
                f"{message}: the weights fit both, and compute something else.",
                f"Give --model-arg {argument}={theirs}, or leave --model out; --model-arg {argument}={ours} keeps it.",
            )
        said.append(f"{message}, as --model-arg says.")
    return True, said + _small(name, given, own, told, known.config)


def _of_another(own: Traits, told: Traits) -> str:
    """In words, where the files describe a model of another form."""
    found = [
        f"{getattr(told, trait)} {called} instead of {getattr(own, trait)}"
        for trait, called in _FORM.items()
        if getattr(told, trait) and getattr(told, trait) != getattr(own, trait)
    ]
    return ", ".join(found)


def _not_used(name: str, known: Beside, differ: str) -> str:
    what = known.kind or "another model"
    reason = f", with {differ}" if differ else ""
    return f"{known.config} beside the weights is of {what}{reason}, not of '{name}': nothing of it is used."


def _small(name: str, given: Collection[str], own: Traits, told: Traits, config: str) -> list[str]:
    said = []
    if told.image_size and told.image_size != own.image_size and "img_size" not in given:
        said.append(
            f"{config} beside the weights says images of {told.image_size} pixels, '{name}' takes {own.image_size}: "
            f"give --model-arg img_size={told.image_size} for the size of training, or img_size={own.image_size} if "
            "this one is meant."
        )
    if told.epsilon and own.epsilon and abs(told.epsilon - own.epsilon) > _EPSILON:
        said.append(
            f"{config} beside the weights says {told.epsilon:g} for the epsilon of LayerNorm, '{name}' has "
            f"{own.epsilon:g}: its outputs differ a little from the original's."
        )
    return said
